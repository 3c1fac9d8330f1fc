"""Melodies of two bars: as symbols, text and notes, made by rule, and a VAE for them."""

import math
import random
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from vae_lessons.mlp import check_sizes
from vae_lessons.sound import Note, show_players, synthesize
from vae_lessons.vae import VAE

STEPS, STEPS_IN_BAR = 16, 8  # two bars of eight eighth notes
LOWEST, PITCHES = 60, 24  # from C4, the middle of a piano, to B5, as MIDI numbers
HOLD, REST = PITCHES, PITCHES + 1  # the symbols that are no onset of a pitch
SYMBOLS = PITCHES + 2

NAMES = ["C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B"]
LETTERS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
ACCIDENTALS = {"": 0, "#": 1, "b": -1}

SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
CELLS = ("x---", "x-x-", "x--x", "x-xx", "xxx-", "x-x.")
CONTOURS = {"rise": (1, 1), "fall": (-1, -1), "arch": (1, -1), "valley": (-1, 1)}
SIZES, CHANCES = (0, 1, 2), (0.15, 0.6, 0.25)
ANSWERS = ("again", "higher", "lower", "mirrored")


# Symbols, text and notes


def check_melodies(melodies):
    """Raises ValueError unless melodies are (N, 16) whole numbers from 0 to 25."""
    if melodies.ndim != 2 or melodies.shape[1] != STEPS or melodies.is_floating_point():
        raise ValueError(
            f"melodies are {melodies.dtype} of shape {tuple(melodies.shape)}, but whole numbers "
            f"of shape (N, {STEPS}) are wanted: one symbol for each step"
        )
    if melodies.numel() and not (melodies.min() >= 0 and melodies.max() < SYMBOLS):
        raise ValueError(
            f"symbols run from {melodies.min()} to {melodies.max()}, but they must lie between 0 "
            f"and {SYMBOLS - 1}: a pitch, {HOLD} to hold or {REST} to rest"
        )


def melody_from_text(text):
    """A melody from words such as "C4 - E4 . | G#5": onset, ``-`` to hold, ``.`` to rest.

    Sixteen words, one for each eighth note. Bar lines ``|`` are left out.

    Shapes: -> (16,) int64.
    Raises: ValueError for another number of words, a word that is none of these, or a pitch
    outside C4 to B5.
    """
    words = [word for word in text.split() if word != "|"]
    if len(words) != STEPS:
        raise ValueError(
            f"got {len(words)} steps, but {STEPS} are wanted: two bars of eight eighth notes. "
            "Lengthen a note with '-' or rest with '.'"
        )
    return torch.tensor([_symbol(word, step) for step, word in enumerate(words, start=1)])


def _symbol(word, step):
    if word in ("-", "."):
        return HOLD if word == "-" else REST
    letter, accidental, octave = word[:1].upper(), word[1:-1], word[-1:]
    if letter not in LETTERS or accidental not in ACCIDENTALS or octave not in set("0123456789"):
        raise ValueError(
            f"step {step} is {word!r}, but a pitch such as C4, F#4 or Bb5, '-' to hold or '.' "
            "to rest is wanted"
        )
    pitch = LETTERS[letter] + ACCIDENTALS[accidental] + 12 * (int(octave) + 1) - LOWEST
    if not 0 <= pitch < PITCHES:
        raise ValueError(
            f"step {step} is {word}, but the grid reaches from {pitch_name(LOWEST)} to "
            f"{pitch_name(LOWEST + PITCHES - 1)}: move the melody by an octave"
        )
    return pitch


def pitch_name(number):
    """The name of a MIDI number: 60 is C4, 69 is A4; black keys as sharps."""
    return f"{NAMES[number % 12]}{number // 12 - 1}"


def melody_to_text(melody):
    """The words that ``melody_from_text`` reads: (16,) -> text."""
    check_melodies(melody[None])
    words = {HOLD: "-", REST: "."}
    words = [words.get(each) or pitch_name(LOWEST + each) for each in melody.tolist()]
    return " ".join(words[:STEPS_IN_BAR]) + " | " + " ".join(words[STEPS_IN_BAR:])


def notes_of(melody):
    """The notes of a melody, in order; a hold with nothing to hold is a rest.

    Shapes: melody (16,) -> a list of Note.
    """
    check_melodies(melody[None])
    notes, sounding = [], False
    for step, symbol in enumerate(melody.tolist()):
        if symbol < PITCHES:
            notes.append(Note(LOWEST + symbol, step, 1))
        elif symbol == HOLD and sounding:
            notes[-1] = notes[-1]._replace(length=notes[-1].length + 1)
        sounding = symbol < PITCHES or (symbol == HOLD and sounding)
    return notes


def melody_of(notes):
    """The melody of these notes; where none sounds, it rests.

    Shapes: a list of Note -> (16,) int64.
    Raises: ValueError for a note outside the grid, or for two that sound at once.
    """
    melody = torch.full((STEPS,), REST)
    for note in notes:
        inside = note.start >= 0 and note.length >= 1 and note.start + note.length <= STEPS
        if not (inside and LOWEST <= note.pitch < LOWEST + PITCHES):
            raise ValueError(
                f"{note} does not fit: pitches {LOWEST} to {LOWEST + PITCHES - 1} and "
                f"{STEPS} steps are what the grid has"
            )
        place = melody[note.start : note.start + note.length]
        if (place != REST).any():
            raise ValueError(f"{note} begins while another note sounds: give one at a time")
        place[:] = HOLD
        place[0] = note.pitch - LOWEST
    return melody


# Melodies made by rule


class Tune(NamedTuple):
    """What a melody was made of; ``cells`` are the two halves of the rhythm of a bar."""

    tonic: int
    mode: str
    cells: tuple
    start: int
    contour: str
    answer: str


def compose(num, seed=0):
    """Melodies made by rule, and what each was made of.

    Every bar has the same rhythm, two cells out of ``CELLS``. The first note is one of the
    tonic triad; from note to note the melody goes 0, 1 or 2 rungs up or down the ladder of its
    key, as its contour says. The second bar answers the first: again, a rung higher or lower, or
    mirrored at its first note, and it ends on the tonic.

    Shapes: -> melodies (num, 16) int64, and a list of ``num`` Tune.
    Raises: ValueError if num is not a whole number of 1 or more.
    """
    check_sizes(num=num)
    chance = random.Random(seed)
    tunes = [_draw_tune(chance) for _ in range(num)]
    return torch.tensor([_write(tune, chance) for tune in tunes]), tunes


def _draw_tune(chance):
    return Tune(
        tonic=chance.randrange(12), mode=chance.choice(list(SCALES)),
        cells=(chance.choice(CELLS), chance.choice(CELLS)), start=chance.randrange(6),
        contour=chance.choice(list(CONTOURS)), answer=chance.choice(ANSWERS),
    )


def ladder(tonic, mode):
    """The pitches of a key within the grid, from low to high: always 14, the rungs."""
    return [pitch for pitch in range(PITCHES) if (pitch - tonic) % 12 in SCALES[mode]]


def _rungs_on(tonic, mode, degrees):
    """The rungs whose pitch lies these semitones above a tonic."""
    pitches = ladder(tonic, mode)
    return [rung for rung, pitch in enumerate(pitches) if (pitch - tonic) % 12 in degrees]


def _starts(tonic, mode):
    """The six rungs of the tonic triad: first, third and fifth of the scale."""
    return _rungs_on(tonic, mode, [SCALES[mode][0], SCALES[mode][2], SCALES[mode][4]])


def _write(tune, chance):
    """The symbols of one melody."""
    rhythm, pitches = "".join(tune.cells), ladder(tune.tonic, tune.mode)
    rungs = [_starts(tune.tonic, tune.mode)[tune.start]]
    for direction in _directions(rhythm, tune.contour):
        rungs.append(_moved(rungs[-1], direction * chance.choices(SIZES, CHANCES)[0]))
    rungs += _answered(rungs, tune)
    sounds = iter([pitches[rung] for rung in rungs])
    return [next(sounds) if mark == "x" else HOLD if mark == "-" else REST
            for mark in 2 * rhythm]


def _directions(rhythm, contour):
    """Up or down for each note of a bar but the first: that of the half in which it begins."""
    onsets = [step for step, mark in enumerate(rhythm) if mark == "x"]
    return [CONTOURS[contour][step >= STEPS_IN_BAR // 2] for step in onsets[1:]]


def _moved(rung, move):
    """A rung after a move, which goes the other way at an end of the ladder."""
    return rung + move if 0 <= rung + move < 14 else rung - move


def _answered(rungs, tune):
    """The rungs of the second bar."""
    if tune.answer == "mirrored":
        answer = [2 * rungs[0] - rung for rung in rungs]
    else:
        shift = {"again": 0, "higher": 1, "lower": -1}[tune.answer]
        answer = [rung + shift for rung in rungs]
    answer = [min(max(rung, 0), 13) for rung in answer]
    home = _rungs_on(tune.tonic, tune.mode, [0])
    return answer[:-1] + [min(home, key=lambda rung: abs(rung - answer[-1]))]


def log_rule_probability(melodies):
    """The exact log probability that ``compose`` makes these melodies; -inf where it cannot.

    The last note gives the tonic away. Modes, contours and answers that would give the same
    notes are all counted.

    Shapes: melodies (N, 16) -> (N,) in float64.  Units: nats.
    """
    check_melodies(melodies)
    chances = [_rule_probability(melody) for melody in melodies]
    return torch.tensor(chances, dtype=torch.float64).log()


def _rule_probability(melody):
    symbols = melody.tolist()
    marks = "".join("-" if each == HOLD else "." if each == REST else "x" for each in symbols)
    rhythm = marks[:STEPS_IN_BAR]
    cells = rhythm[: STEPS_IN_BAR // 2], rhythm[STEPS_IN_BAR // 2 :]
    if marks != 2 * rhythm or not set(cells) <= set(CELLS):
        return 0.0
    pitches = [each for each in symbols if each < PITCHES]
    tonic = pitches[-1] % 12
    given_key = [_pitches_probability(pitches, rhythm, tonic, mode) for mode in SCALES]
    return sum(given_key) / (12 * len(SCALES) * len(CELLS) ** 2)


def _pitches_probability(pitches, rhythm, tonic, mode):
    """The probability of the pitches of both bars in one key."""
    rungs = {pitch: rung for rung, pitch in enumerate(ladder(tonic, mode))}
    path = [rungs.get(pitch) for pitch in pitches]
    if None in path:
        return 0.0
    first, second = path[: len(path) // 2], path[len(path) // 2 :]
    if first[0] not in _starts(tonic, mode):
        return 0.0
    contours = [math.prod(_move_probability(*pair, direction) for *pair, direction in zip(
        first, first[1:], _directions(rhythm, contour), strict=False)) for contour in CONTOURS]
    answers = [_answered(first, Tune(tonic, mode, (), 0, "", answer)) == second
               for answer in ANSWERS]
    return sum(contours) / len(CONTOURS) * sum(answers) / len(ANSWERS) / 6


def _move_probability(rung, to, direction):
    return sum(chance for size, chance in zip(SIZES, CHANCES, strict=True)
               if _moved(rung, direction * size) == to)


# The model


def one_hot_rows(melodies):
    """Each melody as one row of zeros and ones, one of them for each step.

    Shapes: melodies (N, 16) -> (N, 16 * 26) float32.
    """
    check_melodies(melodies)
    return F.one_hot(melodies, SYMBOLS).flatten(1).float()


def log_frequencies(rows):
    """The log of how often each symbol stands at each step, every count one larger.

    Where the output bias of a model starts.

    Shapes: one-hot rows (N, D) -> (D,).
    Raises: ValueError if rows are not (N, D), N >= 1.
    """
    if rows.ndim != 2 or len(rows) == 0:
        raise ValueError(f"rows have shape {tuple(rows.shape)}, but (N, D) is wanted, N >= 1")
    return ((rows.sum(dim=0) + 1) / len(rows)).log()


def categorical_log_likelihood(x, logits, symbols=SYMBOLS):
    """Log-likelihood of one-hot rows under an independent choice of a symbol at each step.

    Shapes: x, logits (B, steps * symbols) -> (B,).  Units: nats.
    Raises: ValueError if the shapes differ or hold no whole steps.
    Source: chapter "music".
    """
    if x.shape != logits.shape or x.ndim != 2 or x.shape[1] % symbols:
        raise ValueError(
            f"x has shape {tuple(x.shape)} and logits {tuple(logits.shape)}: both must be "
            f"(B, steps * {symbols})"
        )
    log_chances = logits.unflatten(1, (-1, symbols)).log_softmax(dim=2)  # (B, steps, symbols)
    return (x * log_chances.flatten(1)).sum(dim=1)


class MelodyVAE(VAE):
    """A VAE whose x is a row of one-hot symbols, independent of each other given z.

    Shapes: x (B, steps * symbols) -> logits of the same shape, mu and log_var (B, latent_dim).
    Raises: ValueError for sizes below 1 or an x of another shape.
    Source: chapter "music".
    """

    def __init__(
        self, hidden_dim, latent_dim, *, steps=STEPS, symbols=SYMBOLS, output_bias=None
    ):
        check_sizes(steps=steps, symbols=symbols)
        super().__init__(
            steps * symbols, hidden_dim, latent_dim, activation=nn.GELU, output_bias=output_bias
        )
        self.symbols = symbols

    def log_px_z(self, x, z):
        """Log-likelihood of one-hot rows given z: (B, D), (B, L) -> (B,) in nats."""
        return categorical_log_likelihood(x, self.decode(z), self.symbols)


def symbol_chances(logits):
    """The probability of each symbol at each step: logits (B, 16 * 26) -> (B, 16, 26)."""
    return logits.unflatten(1, (STEPS, SYMBOLS)).softmax(dim=2)


def most_likely(logits):
    """The most probable symbol of each step: logits (B, 16 * 26) -> melodies (B, 16)."""
    return symbol_chances(logits).argmax(dim=2)


def draw_melodies(logits, generator=None):
    """Melodies drawn from what the decoder says, each step on its own.

    Shapes: logits (B, 16 * 26) -> (B, 16) int64.
    """
    chances = symbol_chances(logits).flatten(0, 1)
    if len(chances) == 0:
        return torch.empty(0, STEPS, dtype=torch.int64)
    return torch.multinomial(chances, 1, generator=generator).view(-1, STEPS)


# Measures


def onset_accuracy(melodies, copies):
    """The share of the onsets of each melody at which its copy begins the same pitch.

    Shapes: melodies, copies (N, 16) -> (N,) in [0, 1].
    Raises: ValueError if the shapes differ or a melody has no onset.
    """
    check_melodies(melodies)
    onset = melodies < PITCHES
    if copies.shape != melodies.shape or not onset.any(dim=1).all():
        raise ValueError(
            f"melodies {tuple(melodies.shape)} and copies {tuple(copies.shape)} must have one "
            "shape, and each melody at least one onset"
        )
    return (onset & (copies == melodies)).sum(dim=1) / onset.sum(dim=1)


def in_one_key(melodies):
    """Whether all pitches of a melody belong to one major scale, or its relative minor.

    Shapes: melodies (N, 16) -> (N,) of bool; a melody without notes counts as true.
    """
    check_melodies(melodies)
    fits = []
    for tonic in range(12):
        members = torch.ones(SYMBOLS, dtype=torch.bool)  # holds and rests fit everywhere
        members[:PITCHES] = torch.tensor([(pitch - tonic) % 12 in SCALES["major"]
                                          for pitch in range(PITCHES)])
        fits.append(members[melodies].all(dim=1))
    return torch.stack(fits).any(dim=0)


def intervals(melodies):
    """The distances from each note to the next, of all melodies, in semitones: (N, 16) -> (M,)."""
    check_melodies(melodies)
    steps = [torch.tensor([each for each in row if each < PITCHES]).diff()
             for row in melodies.tolist()]
    return torch.cat(steps).long() if steps else torch.empty(0, dtype=torch.int64)


# Sound and pictures


def play(tunes):
    """Displays a player for each entry of ``{label: melody}``, with the sound inside the page.

    Several melodies under one label are played one after the other.

    Shapes: each entry (16,) or (N, 16).
    """
    sounds = {}
    for label, melodies in tunes.items():
        parts = [synthesize(notes_of(melody), STEPS) for melody in melodies.view(-1, STEPS)]
        sounds[label] = np.concatenate(parts)
    show_players(sounds)


def show_rolls(tunes, columns=4):
    """Draws the piano roll of each entry of ``{label: melody}`` and returns the axes.

    Shapes: each entry (16,).
    """
    rows = math.ceil(len(tunes) / columns)
    figure, all_axes = plt.subplots(
        rows, columns, figsize=(2.3 * columns, 1.9 * rows), sharex=True, sharey=True,
        squeeze=False, layout="constrained",
    )
    for axes, (label, melody) in zip(all_axes.flat, tunes.items(), strict=False):
        for note in notes_of(melody):
            axes.barh(note.pitch, note.length - 0.15, left=note.start, height=0.9, color="C0")
        axes.set_title(label, fontsize="medium")
    for axes in all_axes.flat[len(tunes) :]:
        axes.set_visible(False)
    _draw_grid(all_axes)
    return all_axes.flat[: len(tunes)]


def _draw_grid(all_axes):
    """Ticks at the pitches C, E and G sharp, a line between the bars, and units."""
    names = range(LOWEST, LOWEST + PITCHES, 4)
    for axes in all_axes.flat:
        axes.axvline(STEPS_IN_BAR, color="black", linewidth=0.8)
        axes.set(xlim=(0, STEPS), ylim=(LOWEST - 1, LOWEST + PITCHES), xticks=range(0, STEPS, 4),
                 yticks=names, yticklabels=map(pitch_name, names))
    for axes in all_axes[:, 0]:
        axes.set_ylabel("pitch")
    for axes in all_axes[-1]:
        axes.set_xlabel("time (eighth notes)")


# Chorales


def load_chorales(num):
    """Soprano lines of the first ``num`` chorales by Bach in music21, cut into two bars.

    Only chorales in four parts and four-four time throughout. Windows begin with every full bar,
    so that they overlap. What begins between two eighth notes is left out, and a note held over
    from before the window is struck anew.

    Shapes: -> a list of ``num`` int64 tensors, one for each chorale: (windows, 16).
    Raises: ModuleNotFoundError if music21 is missing; ValueError if there are fewer chorales.
    """
    check_sizes(num=num)
    try:
        from music21 import corpus, ipython21
    except ImportError:
        raise ModuleNotFoundError(
            "Bach's chorales come with music21, which is missing here: `pip install music21`"
        ) from None
    if timer := getattr(ipython21, "t", None):
        timer.cancel()  # in Jupyter it would soon change how all figures are drawn
    chorales = []
    paths = corpus.getComposer("bach", fileExtensions=("mxl",))
    for path in sorted(paths, key=lambda path: path.name):
        score = corpus.parse(path)
        if _is_plain_chorale(score):
            chorales.append(_windows(score.parts[0]))
        if len(chorales) == num:
            return chorales
    raise ValueError(f"num is {num}, but music21 has only {len(chorales)} such chorales")


def _is_plain_chorale(score):
    times = {each.ratioString for each in score.recurse().getElementsByClass("TimeSignature")}
    return len(score.parts) == 4 and times == {"4/4"}


def _windows(part):
    """All windows of two full bars that the grid can hold: a music21 part -> (windows, 16)."""
    bars = [float(bar.offset) for bar in part.getElementsByClass("Measure")
            if bar.duration.quarterLength == 4]
    notes = [(float(note.offset), float(note.offset + note.quarterLength), note.pitch.midi)
             for note in part.stripTies().flatten().notes]
    windows = [[_heard_at(start + step / 2, notes, step == 0) for step in range(STEPS)]
               for start in bars if start + 4 in bars]
    inside = [window for window in windows if None not in window]
    return torch.tensor(inside, dtype=torch.int64).view(-1, STEPS)


def _heard_at(time, notes, struck):
    """The symbol at a time in quarter notes; None for a pitch outside the grid."""
    for start, end, number in notes:
        if start <= time < end:
            if not LOWEST <= number < LOWEST + PITCHES:
                return None
            return number - LOWEST if struck or start == time else HOLD
    return REST


def transpositions(melodies):
    """Each melody moved by -5 to 6 semitones, as far as the grid reaches.

    Shapes: melodies (N, 16) -> (M, 16), M between N and 12 N.
    """
    check_melodies(melodies)
    moved = []
    for shift in range(-5, 7):
        pitched = melodies < PITCHES
        others = torch.where(pitched, melodies + shift, melodies)
        fits = (~pitched | ((others >= 0) & (others < PITCHES))).all(dim=1)
        moved.append(others[fits])
    return torch.cat(moved)
