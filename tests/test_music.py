"""Melodies as symbols, notes and text; the rule that makes them; the model; the chorales."""

import itertools
import math
import sys
import threading

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch.distributions import Categorical

from vae_lessons import music
from vae_lessons.elbo import elbo_terms
from vae_lessons.music import (
    CELLS,
    HOLD,
    PITCHES,
    REST,
    SCALES,
    STEPS,
    SYMBOLS,
    MelodyVAE,
    Tune,
    categorical_log_likelihood,
    check_melodies,
    compose,
    draw_melodies,
    in_one_key,
    intervals,
    ladder,
    load_chorales,
    log_frequencies,
    log_rule_probability,
    melody_from_text,
    melody_of,
    melody_to_text,
    most_likely,
    notes_of,
    one_hot_rows,
    onset_accuracy,
    pitch_name,
    play,
    show_rolls,
    symbol_chances,
    transpositions,
)
from vae_lessons.sound import Note, synthesize
from vae_lessons.training import fit

TWINKLE = "C4 - C4 - G4 - G4 - | A4 - A4 - G4 - - ."


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def random_rows(num, seed=0):
    """Rows of symbols that no rule has made, with more holds and rests than chance gives."""
    rows = torch.randint(SYMBOLS + 10, (num, STEPS), generator=seeded(seed))
    return torch.where(rows >= SYMBOLS, HOLD + rows % 2, rows)


# Symbols, text and notes


def test_text_by_hand():
    melody = melody_from_text(TWINKLE)
    assert melody.tolist() == [0, 24, 0, 24, 7, 24, 7, 24, 9, 24, 9, 24, 7, 24, 24, 25]
    assert melody_to_text(melody) == TWINKLE
    sharps = melody_from_text("C#4 Db4 Bb5 b5 Cb5" + " ." * 11)
    assert sharps[:5].tolist() == [1, 1, 22, 23, 11]


def test_text_and_back():
    for row in random_rows(50):
        assert melody_from_text(melody_to_text(row)).equal(row)


@pytest.mark.parametrize(("text", "reason"), [
    ("C4 - E4 -", "got 4 steps, but 16 are wanted"),
    ("C4 " * 17, "got 17 steps"),
    ("C4 - H4 -" + " -" * 12, "step 3 is 'H4'"),
    ("C4 - E -" + " -" * 12, "step 3 is 'E'"),
    ("C4 - Ex4 -" + " -" * 12, "step 3 is 'Ex4'"),
    ("C4 B3" + " -" * 14, "step 2 is B3, but the grid reaches from C4 to B5"),
    ("C6" + " -" * 15, "step 1 is C6"),
])
def test_text_is_refused_with_a_reason(text, reason):
    with pytest.raises(ValueError, match=reason):
        melody_from_text(text)


def test_pitch_names():
    assert [pitch_name(number) for number in (60, 69, 70, 83)] == ["C4", "A4", "A#4", "B5"]


def test_notes_by_hand():
    assert notes_of(melody_from_text(TWINKLE)) == [
        Note(60, 0, 2), Note(60, 2, 2), Note(67, 4, 2), Note(67, 6, 2), Note(69, 8, 2),
        Note(69, 10, 2), Note(67, 12, 3),
    ]


def test_a_hold_with_nothing_to_hold_is_a_rest():
    broken = melody_from_text("- - C4 - . - - E4 | - . - - - - - -")
    assert notes_of(broken) == [Note(60, 2, 2), Note(64, 7, 2)]
    mended = melody_of(notes_of(broken))
    assert melody_to_text(mended) == ". . C4 - . . . E4 | - . . . . . . ."


def test_notes_and_back():
    """Nothing is lost in melodies made by rule; in any row, the notes stay the same."""
    for melody in compose(200, seed=3)[0]:
        assert melody_of(notes_of(melody)).equal(melody)
    for row in random_rows(200):
        assert notes_of(melody_of(notes_of(row))) == notes_of(row)


@pytest.mark.parametrize(("notes", "reason"), [
    ([Note(60, 15, 2)], "does not fit"), ([Note(60, -1, 2)], "does not fit"),
    ([Note(60, 0, 0)], "does not fit"), ([Note(59, 0, 1)], "does not fit"),
    ([Note(84, 0, 1)], "does not fit"), ([Note(60, 0, 4), Note(62, 3, 1)], "one at a time"),
])
def test_notes_are_refused(notes, reason):
    with pytest.raises(ValueError, match=reason):
        melody_of(notes)


@pytest.mark.parametrize("wrong", [
    torch.zeros(16, dtype=torch.int64), torch.zeros(2, 15, dtype=torch.int64), torch.zeros(2, 16),
    torch.full((1, 16), 26), torch.full((1, 16), -1),
])
def test_rows_that_are_no_melodies_are_refused(wrong):
    for function in (check_melodies, one_hot_rows, in_one_key, log_rule_probability):
        with pytest.raises(ValueError, match=r"melodies are .* wanted|symbols run from"):
            function(wrong)


# The rule


def test_what_the_rule_makes():
    melodies, tunes = compose(500, seed=0)
    check_melodies(melodies)
    assert len(tunes) == len(melodies) == 500
    assert in_one_key(melodies).all()
    for melody, tune in zip(melodies.tolist(), tunes, strict=True):
        marks = ["-" if each == HOLD else "." if each == REST else "x" for each in melody]
        assert "".join(marks) == 2 * "".join(tune.cells)
        pitches = [each for each in melody if each < PITCHES]
        assert {(pitch - tune.tonic) % 12 for pitch in pitches} <= set(SCALES[tune.mode])
        assert pitches[-1] % 12 == tune.tonic, "it ends on the tonic"
        third = 4 if tune.mode == "major" else 3
        assert (pitches[0] - tune.tonic) % 12 in (0, third, 7), "it begins with the triad"


def test_contours_and_answers():
    """On a melody without turns at the ends of the ladder, each does what its name says."""
    melodies, tunes = compose(4000, seed=1)
    seen = set()
    for melody, tune in zip(melodies.tolist(), tunes, strict=True):
        rungs = [ladder(tune.tonic, tune.mode).index(each) for each in melody if each < PITCHES]
        first, second = rungs[: len(rungs) // 2], rungs[len(rungs) // 2 :]
        if min(rungs) < 2 or max(rungs) > 11:
            continue
        moves = [later - sooner for sooner, later in itertools.pairwise(first)]
        answer = [later - sooner for sooner, later in itertools.pairwise(second[:-1])]
        if tune.contour in ("rise", "fall"):
            assert all(0 <= (move if tune.contour == "rise" else -move) <= 2 for move in moves)
        sign = -1 if tune.answer == "mirrored" else 1
        assert answer == [sign * move for move in moves[:-1]]
        if len(first) > 1:
            shift = {"again": 0, "mirrored": 0, "higher": 1, "lower": -1}[tune.answer]
            assert second[0] - first[0] == shift
        seen.add((tune.contour, tune.answer))
    assert len(seen) == 16


def test_same_seed_same_melodies():
    first, again, other = (compose(20, seed=seed)[0] for seed in (5, 5, 6))
    assert first.equal(again) and not first.equal(other)
    with pytest.raises(ValueError, match="num is 0"):
        compose(0)


def test_every_key_has_fourteen_rungs():
    for tonic, mode in itertools.product(range(12), SCALES):
        assert len(ladder(tonic, mode)) == 14
    assert ladder(0, "major")[:8] == [0, 2, 4, 5, 7, 9, 11, 12]
    assert ladder(9, "minor") == ladder(0, "major"), "A minor has the tones of C major"


def test_probabilities_of_all_melodies_add_up_to_one():
    """All 24^3 * 2 ways to fill the rhythm of two long notes a bar, ending on the tonic G."""
    tonic = 7
    rows = torch.full((2 * PITCHES**3, STEPS), HOLD)
    filled = itertools.product(range(PITCHES), range(PITCHES), range(PITCHES), (tonic, tonic + 12))
    rows[:, ::4] = torch.tensor(list(filled))
    total = log_rule_probability(rows).exp().sum()
    assert abs(total * 12 * len(CELLS) ** 2 - 1) < 1e-12


def test_probability_by_hand():
    """C D E F, then the same and C: the key is C major, for C minor has no E.

    An octave lower it is twice as probable: at the foot of the ladder a valley begins upwards.
    There, upside down is below the ladder, so that answer stays on its lowest rung.
    """
    melody = melody_from_text("C5 - D5 - E5 - F5 - | C5 - D5 - E5 - C5 -")
    steps = 0.6**3
    wanted = 1 / 12 / 2 / 36 / 6 * (steps / 4) * (1 / 4)
    assert math.isclose(log_rule_probability(melody[None]).exp().item(), wanted)
    lower = torch.where(melody < PITCHES, melody - 12, melody)
    assert math.isclose(log_rule_probability(lower[None]).exp().item(), 2 * wanted)
    low = melody_from_text("C4 - D4 - E4 - F4 - | C4 - C4 - C4 - C4 -")
    assert math.isclose(log_rule_probability(low[None]).exp().item(), 2 * wanted)


def test_what_the_rule_cannot_make_has_no_probability():
    made = compose(50, seed=2)[0]
    assert log_rule_probability(made).isfinite().all()
    spoiled = [
        "C4 - D4 - E4 - F4 - | C4 - D4 - E4 - G4 -", "C4 - D4 - E4 - F4 - | C4 - D4 - E4 C4 - -",
        "D4 - E4 - F4 - G4 - | D4 - E4 - F4 - C4 -", "C4 - C#4 - E4 - F4 - | C4 - C#4 - E4 - C4 -",
        "C4 - G4 - E4 - F4 - | C4 - G4 - E4 - C4 -", "C4 - D4 - E4 - F4 - | G4 - A4 - B4 - C5 -",
        ". " * 16, TWINKLE,
    ]
    assert log_rule_probability(torch.stack(list(map(melody_from_text, spoiled)))).isneginf().all()


def test_frequencies_agree_with_probabilities():
    """The mean of 1 / p over draws, within one rhythm and tonic, is how many melodies there are."""
    melodies, tunes = compose(20_000, seed=4)
    chosen = [melody for melody, tune in zip(melodies, tunes, strict=True)
              if tune.tonic == 0 and tune.cells == ("x---", "x---")]
    chosen = torch.stack(chosen)
    p = log_rule_probability(chosen).exp() * 12 * len(CELLS) ** 2
    often, counts = chosen.unique(dim=0, return_counts=True)
    chance = log_rule_probability(often).exp() * 12 * len(CELLS) ** 2
    errors = (chance * (1 - chance) / len(chosen)).sqrt()
    assert ((counts / len(chosen) - chance).abs() < 6 * errors + 1 / len(chosen)).all()
    assert p.min() > 0


# The model


def test_one_hot_rows():
    melodies = random_rows(5)
    rows = one_hot_rows(melodies)
    assert rows.shape == (5, STEPS * SYMBOLS) and rows.dtype == torch.float32
    for b, t in itertools.product(range(5), range(STEPS)):
        box = rows[b, t * SYMBOLS : (t + 1) * SYMBOLS]
        assert box.sum() == 1 and box[melodies[b, t]] == 1
    assert one_hot_rows(melodies[:0]).shape == (0, STEPS * SYMBOLS)


def test_likelihood_against_torch_distributions():
    melodies = random_rows(6)
    logits = 3 * torch.randn(6, STEPS * SYMBOLS, generator=seeded(), dtype=torch.float64)
    wanted = Categorical(logits=logits.view(6, STEPS, SYMBOLS)).log_prob(melodies).sum(dim=1)
    ours = categorical_log_likelihood(one_hot_rows(melodies).double(), logits)
    torch.testing.assert_close(ours, wanted)


def test_likelihoods_of_all_rows_of_a_tiny_grid_add_up_to_one():
    torch.manual_seed(0)
    model = MelodyVAE(6, 2, steps=3, symbols=4).double()
    z = torch.randn(1, 2, generator=seeded(), dtype=torch.float64)
    rows = torch.tensor(list(itertools.product(range(4), repeat=3)))
    x = torch.nn.functional.one_hot(rows, 4).flatten(1).double()
    total = model.log_px_z(x, z.expand(len(x), -1)).exp().sum()
    assert abs(total - 1) < 1e-12


def test_likelihood_refuses_other_shapes():
    for x, logits in [((2, 8), (2, 12)), ((2, 10), (2, 10)), ((8,), (8,))]:
        with pytest.raises(ValueError, match=r"must be \(B, steps \* 4\)"):
            categorical_log_likelihood(torch.zeros(x), torch.zeros(logits), 4)


def test_model_sizes():
    model = MelodyVAE(10, 3)
    x = one_hot_rows(random_rows(4))
    z, _ = model.sample_posterior(x, seeded())
    assert z.shape == (4, 3) and model.decode(z).shape == x.shape
    assert model.log_px_z(x, z).shape == (4,)
    for sizes in ({"steps": 0}, {"symbols": 0}):
        with pytest.raises(ValueError, match="must be a whole number of 1 or more"):
            MelodyVAE(10, 3, **sizes)


def test_bias_starts_at_the_frequencies():
    rows = one_hot_rows(random_rows(40))
    bias = log_frequencies(rows)
    torch.testing.assert_close(bias.exp(), (rows.sum(dim=0) + 1) / 40)
    assert MelodyVAE(5, 2, output_bias=bias).decoder.logits.bias.equal(bias)
    with pytest.raises(ValueError, match=r"\(N, D\) is wanted, N >= 1"):
        log_frequencies(rows[:0])


def test_a_small_model_learns_its_melodies():
    melodies = compose(64, seed=0)[0]
    x = one_hot_rows(melodies)
    torch.manual_seed(0)
    model = MelodyVAE(64, 16, output_bias=log_frequencies(x))
    fit(model, x, elbo_terms, epochs=150, batch_size=32, learning_rate=5e-3,
        kl_weight=lambda done: 0.05)
    z, _ = model.sample_posterior(x, seeded())
    assert onset_accuracy(melodies, most_likely(model.decode(z))).mean() > 0.9


def test_symbols_from_logits():
    logits = torch.randn(3, STEPS * SYMBOLS, generator=seeded())
    chances = symbol_chances(logits)
    torch.testing.assert_close(chances.sum(dim=2), torch.ones(3, STEPS))
    assert most_likely(logits).equal(logits.view(3, STEPS, SYMBOLS).argmax(dim=2))
    sure = 100 * one_hot_rows(random_rows(3))
    assert most_likely(sure).equal(random_rows(3)) and draw_melodies(sure).equal(random_rows(3))
    assert draw_melodies(logits[:0]).shape == (0, STEPS)


def test_draws_have_the_chances_of_the_decoder():
    num = 20_000
    logits = torch.randn(1, STEPS * SYMBOLS, generator=seeded())
    drawn = one_hot_rows(draw_melodies(logits.expand(num, -1), seeded(1))).mean(dim=0)
    p = symbol_chances(logits).flatten()
    assert ((drawn - p).abs() < 6 * (p * (1 - p) / num).sqrt() + 1e-4).all()


# Measures


def test_onset_accuracy_by_hand():
    melody = melody_from_text(TWINKLE)
    copy = melody_from_text("C4 - . - G4 - A4 - | A4 A4 A4 . - - - C4")
    assert onset_accuracy(melody[None], copy[None]).tolist() == [pytest.approx(4 / 7)]
    assert onset_accuracy(melody[None], melody[None]).tolist() == [1.0]
    with pytest.raises(ValueError, match="must have one shape"):
        onset_accuracy(melody[None], copy[None].expand(2, -1))
    with pytest.raises(ValueError, match="at least one onset"):
        onset_accuracy(torch.full((1, 16), REST), copy[None])


def test_in_one_key():
    tunes = [TWINKLE, "C4 C#4 D4" + " -" * 13, "A4 B4 C5 D5 E5 F5 G5 A5" + " ." * 8, ". " * 16,
             "F#4 G#4 A#4 B4 C#5 D#5 F5 F#5" + " -" * 8, "C4 E4 G#4" + " -" * 13]
    melodies = torch.stack([melody_from_text(text) for text in tunes])
    assert in_one_key(melodies).tolist() == [True, False, True, True, True, False]


def test_intervals():
    melodies = torch.stack([melody_from_text(TWINKLE), torch.full((STEPS,), REST)])
    assert intervals(melodies).tolist() == [0, 7, 0, 2, 0, -2]
    assert intervals(melodies[:0]).shape == (0,)


# Sound and pictures


def test_several_melodies_are_played_one_after_the_other(monkeypatch):
    shown = []
    monkeypatch.setattr(music, "show_players", shown.append)
    first, second = compose(2, seed=0)[0]
    play({"one": first, "two": torch.stack([first, second])})
    one, two = shown[0]["one"], shown[0]["two"]
    assert np.array_equal(one, synthesize(notes_of(first), STEPS))
    assert np.array_equal(two, np.concatenate([one, synthesize(notes_of(second), STEPS)]))


def test_piano_rolls():
    melody = melody_from_text(TWINKLE)
    axes = show_rolls({"one": melody, "two": melody, "three": melody}, columns=2)
    assert [each.get_title() for each in axes] == ["one", "two", "three"]
    bars = axes[0].patches
    drawn = [(bar.get_x(), bar.get_y() + bar.get_height() / 2, bar.get_width()) for bar in bars]
    wanted = [(note.start, note.pitch, note.length - 0.15) for note in notes_of(melody)]
    assert np.allclose(drawn, wanted)
    assert axes[0].get_ylabel() == "pitch"
    plt.close("all")


# Chorales


def test_chorales():
    pytest.importorskip("music21")
    chorales = load_chorales(2)
    assert len(chorales) == 2
    for windows in chorales:
        check_melodies(windows)
        assert len(windows) > 2
        assert windows[:, 0].ne(HOLD).all(), "a note held over is struck anew"
    again = load_chorales(1)[0]
    assert again.equal(chorales[0])


def test_music21_is_kept_from_changing_how_figures_are_drawn(monkeypatch):
    """In Jupyter it starts a timer when it is imported."""
    ipython21 = pytest.importorskip("music21.ipython21")
    timer = threading.Timer(60, print)
    timer.start()
    monkeypatch.setattr(ipython21, "t", timer, raising=False)
    load_chorales(1)
    assert timer.finished.is_set(), "cancelled"


def test_windows_by_hand():
    """A bar of upbeat, a tie over the bar line, a rest, two sixteenths and a note too low."""
    music21 = pytest.importorskip("music21")
    text = "4/4 r2. c4 d2 e4 f4~ f2 r4 g8 a8 b16 c'16 d'4. e'2 C2 c2"
    part = music21.converter.parse(f"tinyNotation: {text}")
    windows = [melody_to_text(window) for window in music._windows(part)]
    assert windows == [
        ". . . . . . C4 - | D4 - - - E4 - F4 -", "D4 - - - E4 - F4 - | - - - - . . G4 A4",
        "F4 - - - . . G4 A4 | B4 D5 - - E5 - - -",
    ]


def test_a_short_bar_is_no_bar():
    """Such as an upbeat, at the beginning or where a phrase ends early."""
    music21 = pytest.importorskip("music21")
    part = music21.stream.Part()
    first, second = ["D4", "E4", "F4", "G4"], ["A4", "B4", "C5", "D5"]
    for notes in (["C4"], first, second, ["C4"], first):
        part.append(music21.stream.Measure([music21.note.Note(name) for name in notes]))
    windows = [melody_to_text(window) for window in music._windows(part)]
    assert windows == ["D4 - E4 - F4 - G4 - | A4 - B4 - C5 - D5 -"]


def test_which_scores_are_chorales():
    music21 = pytest.importorskip("music21")

    def score(num_parts, notes):
        parse, score = music21.converter.parse, music21.stream.Score()
        for _ in range(num_parts):
            score.insert(0, parse(f"tinyNotation: {notes}"))
        return score

    assert music._is_plain_chorale(score(4, "4/4 c1 d1"))
    for other in (score(5, "4/4 c1 d1"), score(4, "3/4 c2. d2."), score(4, "4/4 c1 3/4 d2.")):
        assert not music._is_plain_chorale(other)


def test_without_music21_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "music21", None)
    with pytest.raises(ModuleNotFoundError, match="pip install music21"):
        load_chorales(1)


def test_more_chorales_than_there_are(monkeypatch):
    music21 = pytest.importorskip("music21")
    monkeypatch.setattr(music21.corpus, "getComposer", lambda *args, **kwargs: [])
    with pytest.raises(ValueError, match="num is 3, but music21 has only 0"):
        load_chorales(3)


def test_transpositions():
    melody = melody_from_text(TWINKLE)[None]
    moved = transpositions(melody)
    assert len(moved) == 7, "C4 is the lowest pitch, so up only: by 0 to 6 semitones"
    assert melody[0].tolist() in moved.tolist()
    for shift, each in enumerate(moved):
        assert (each[each < PITCHES] - melody[melody < PITCHES]).unique().tolist() == [shift]
        assert each.gt(HOLD - 1).equal(melody[0].gt(HOLD - 1))
    assert in_one_key(moved).all()
    middle = melody_from_text("A4 B4 C5" + " -" * 13)[None]
    assert len(transpositions(middle)) == 12
    highest = transpositions(melody_from_text("B5 E5" + " -" * 14)[None])
    assert highest[:, 0].tolist() == [18, 19, 20, 21, 22, 23], "down by 5 to 0 semitones"
    assert transpositions(middle[:0]).shape == (0, STEPS)


def test_tune_says_what_a_melody_is_made_of():
    assert compose(1, seed=0)[1][0]._fields == Tune._fields == (
        "tonic", "mode", "cells", "start", "contour", "answer")
