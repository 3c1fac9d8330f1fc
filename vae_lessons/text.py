"""Sentences: a grammar whose entropy is known, a VAE that writes, and the way from a text file."""

import argparse
import math
import re
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from vae_lessons.data import check_choice
from vae_lessons.elbo import Terms, elbo_terms
from vae_lessons.kl import kl_to_standard_normal
from vae_lessons.latent_model import LatentModel
from vae_lessons.latent_space import interpolate
from vae_lessons.mlp import check_rows, check_sizes
from vae_lessons.reparameterization import reparameterize
from vae_lessons.training import cosine, fit

# The grammar. Each table gives the options of one factor with their probabilities.


def _evenly(words, p_none=0.0):
    """Equal probabilities for these words, after that of saying none of them."""
    options = dict.fromkeys(words.split(), (1 - p_none) / len(words.split()))
    return {"": p_none, **options} if p_none else options


TENSE = {"past": 0.4, "present": 0.35, "future": 0.25}
TIME = {
    "past": {"yesterday": 0.6, "once": 0.4},
    "present": {"today": 0.5, "often": 0.5},
    "future": {"tomorrow": 0.6, "soon": 0.4},
}
NUMBER = {"one": 0.6, "several": 0.4}
MOOD = _evenly("tired polite angry tiny famous", p_none=0.25)
SUBJECT = _evenly("pirate penguin robot wizard professor dragon neighbour ghost")
VERB = _evenly("paint cook borrow juggle repair admire follow order")
OBJECT = {
    "paint": _evenly("piano fence elephant umbrella"),
    "cook": _evenly("pudding egg omelette pie"),
    "borrow": _evenly("ladder umbrella tractor hat"),
    "juggle": _evenly("melon egg chair kettle"),
    "repair": _evenly("tractor piano kettle clock"),
    "admire": _evenly("hat volcano statue elephant"),
    "follow": _evenly("parrot camel snail elephant"),
    "order": _evenly("pie sofa omelette hat"),
}
LOOK = _evenly("red wooden small enormous expensive invisible", p_none=0.28)
PLACE = _evenly("kitchen garden roof moon station harbour bridge")
PREPOSITION = {"kitchen": "in", "garden": "in", "roof": "on", "moon": "on",
               "station": "at", "harbour": "at", "bridge": "under"}


class Factors(NamedTuple):
    """The nine choices behind one sentence of the grammar; "" is the choice of no word."""

    tense: str
    time: str
    mood: str
    subject: str
    number: str
    verb: str
    look: str
    object: str
    place: str


def factor_tables(tense, verb):
    """The options of each factor with their probabilities; time hangs on tense, object on verb."""
    return Factors(TENSE, TIME[tense], MOOD, SUBJECT, NUMBER, VERB, LOOK, OBJECT[verb], PLACE)


def grammar_entropy():
    """The entropy of a sentence of the grammar: no model's mean of -log p(sentence) is lower.

    The chain rule: the entropies of the factors add up, for a factor that hangs on another one
    its mean over that one. Different choices give different sentences, so nothing is counted twice.

    Units: nats.  Source: Cover & Thomas (2006), chapter 2; chapter "text".
    """
    free = [TENSE, MOOD, SUBJECT, NUMBER, VERB, LOOK, PLACE]
    time = sum(p * _entropy(TIME[tense]) for tense, p in TENSE.items())
    thing = sum(p * _entropy(OBJECT[verb]) for verb, p in VERB.items())
    return sum(map(_entropy, free)) + time + thing


def _entropy(table):
    return -sum(p * math.log(p) for p in table.values())


def draw_factors(num, seed):
    """``num`` independent draws from the grammar, as a list of ``Factors``."""
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(num, len(Factors._fields), generator=generator, dtype=torch.float64)
    return [_chosen(row) for row in uniform.tolist()]


def _chosen(uniform):
    """The factors that nine uniform numbers choose."""
    u = Factors(*uniform)
    tables = factor_tables(_option(TENSE, u.tense), _option(VERB, u.verb))
    return Factors(*map(_option, tables, u))


def _option(table, uniform):
    """The option whose piece of the interval from 0 to 1 holds this number."""
    for option, p in table.items():
        uniform -= p
        if uniform < 0:
            return option
    return option  # the pieces add up to 1 but for rounding


def log_prob(factors):
    """The log probability of one ``Factors`` under the grammar, in nats."""
    tables = factor_tables(factors.tense, factors.verb)
    return sum(math.log(table[option]) for table, option in zip(tables, factors))


def sentence_of(factors):
    """The sentence that these factors make, with its agreements."""
    words = [factors.time, "the", factors.mood, _noun(factors), *_verb(factors),
             _article(factors.look or factors.object), factors.look, factors.object,
             PREPOSITION[factors.place], "the", factors.place]
    return " ".join(word for word in words if word)


def _noun(factors):
    return factors.subject + ("s" if factors.number == "several" else "")


def _verb(factors):
    """The verb in its form, as a list of words: "paints", "paint", "painted", "will paint"."""
    if factors.tense == "future":
        return ["will", factors.verb]
    if factors.tense == "past":
        return [factors.verb + ("d" if factors.verb.endswith("e") else "ed")]
    return [factors.verb + ("s" if factors.number == "one" else "")]


def _article(next_word):
    return "an" if next_word[0] in "aeiou" else "a"


SHAPE = re.compile(
    r"(?P<time>\w+) the (?:(?P<mood>{mood}) )?(?P<subject>{subject})(?P<plural>s?) "
    r"(?P<will>will )?(?P<verb>{verb})(?P<ending>s|d|ed|) (?:a (?![aeiou])|an (?=[aeiou]))"
    r"(?:(?P<look>{look}) )?(?P<object>\w+) (?P<preposition>\w+) the (?P<place>\w+)".format(
        **{name: "|".join(filter(None, table)) for name, table in
           [("mood", MOOD), ("subject", SUBJECT), ("verb", VERB), ("look", LOOK)]})
)
TENSE_OF = {time: tense for tense, times in TIME.items() for time in times}


def parse(sentence):
    """The ``Factors`` of a sentence of the grammar, or None if it is not one.

    A regular expression finds the parts and the rest checks that they agree: nothing is shared
    with the writing but the tables.
    """
    found = SHAPE.fullmatch(sentence)
    parts = found.groupdict(default="") if found else {}
    if parts.get("time") not in TENSE_OF:
        return None
    tense, number = TENSE_OF[parts["time"]], "several" if parts["plural"] else "one"
    factors = Factors(tense, number=number, **{name: parts[name] for name in Factors._fields
                                               if name not in ("tense", "number")})
    past = "d" if factors.verb.endswith("e") else "ed"
    ending = {"past": past, "present": "s" if number == "one" else "", "future": ""}[tense]
    agrees = (parts["ending"] == ending and bool(parts["will"]) == (tense == "future")
              and factors.object in OBJECT[factors.verb]
              and PREPOSITION.get(factors.place) == parts["preposition"])
    return factors if agrees else None


# Sentences as rows of numbers.

END, UNKNOWN = "⏹", "□"
UNITS = ("words", "characters")
MARKS = re.compile(r"([.,;:!?()\[\]{}\"“”„«»…¿¡。，、；：！？（）《》「」])")


def tokens(sentence, unit):
    """The pieces of a sentence: its words, with marks as words of their own, or its characters."""
    return MARKS.sub(r" \1 ", sentence).split() if unit == "words" else list(sentence)


class Vocabulary:
    """The words (or characters) of a set of sentences, and the way to rows of numbers and back.

    A sentence is a row of ``length`` times ``len(words)`` numbers, 0 or 1: for each place the
    word that stands there, one-hot. Behind the last word stands END, unless all places are taken,
    and behind END nothing, only zeros. A word that is not listed becomes UNKNOWN if that is.

    Raises: ValueError for another unit than "words" or "characters".
    Source: chapter "text".
    """

    def __init__(self, words, length, unit="words"):
        check_choice("unit", unit, UNITS)
        self.words, self.length, self.unit = [END, *words], length, unit
        self.numbers = {word: number for number, word in enumerate(self.words)}

    def rows(self, sentences):
        """Each sentence as a one-hot row: N strings -> (N, length * V) float32.

        Raises: ValueError for a sentence that is too long or holds a word that is not known.
        """
        rows = torch.zeros(len(sentences), self.length, len(self.words))
        for row, sentence in zip(rows, sentences):
            numbers = self._numbers_of(sentence)
            row[torch.arange(len(numbers)), numbers] = 1.0
        return rows.flatten(1)

    def _numbers_of(self, sentence):
        pieces = tokens(sentence, self.unit)
        if len(pieces) > self.length:
            raise ValueError(f"{sentence[:60]!r} has {len(pieces)} {self.unit}, but at most "
                             f"{self.length} are wanted: cut it, or leave it out")
        other = self.numbers.get(UNKNOWN)
        numbers = [self.numbers.get(piece, other) for piece in pieces]
        if None in numbers:
            raise ValueError(f"{pieces[numbers.index(None)]!r} is none of the {self.unit} known")
        return torch.tensor((numbers + [0])[: self.length])

    def unknown_share(self, sentence):
        """The share of the words of one sentence that are not listed: a number from 0 to 1."""
        pieces = tokens(sentence, self.unit)
        return sum(piece not in self.numbers for piece in pieces) / max(1, len(pieces))

    def sentences(self, rows):
        """The sentence in each one-hot row, up to its END: (N, length * V) -> N strings."""
        space = " " if self.unit == "words" else ""
        places = rows.unflatten(1, (self.length, len(self.words)))
        found = []
        for row in torch.where(places.amax(dim=2) > 0, places.argmax(dim=2), 0).tolist():
            row = row[: row.index(0)] if 0 in row else row
            found.append(space.join(self.words[number] for number in row))
        return found


def vocabulary_of(sentences, unit="words", most=None):
    """The vocabulary of these sentences, the commonest words first, as long as the longest.

    With ``most``, only so many words that stand there at least twice are listed, behind UNKNOWN,
    which takes the place of all others.

    Raises: ValueError if there is no sentence, or for another unit.
    """
    check_choice("unit", unit, UNITS)
    pieces = [tokens(sentence, unit) for sentence in sentences]
    if not any(pieces):
        raise ValueError("there is no sentence with a word in it: nothing to make a vocabulary of")
    counts = Counter(word for sentence in pieces for word in sentence)
    words = sorted(counts, key=lambda word: (-counts[word], word))
    if most is not None:
        words = [UNKNOWN, *[word for word in words if counts[word] > 1 and word != UNKNOWN][:most]]
    return Vocabulary(words, max(map(len, pieces)), unit)


# The model.


class SentenceVAE(LatentModel):
    """A VAE of sentences: one GRU reads, another writes word after word with z at each step.

    A sentence is a one-hot row as ``Vocabulary.rows`` makes it. A place of zeros counts for
    nothing, in reading and in writing. The probabilities of all sentences add up to 1: of those
    that END, and of those that fill all places.

    Shapes: x (B, length * vocabulary_size), z (B, latent_dim).
    Raises: ValueError for sizes below 1, an x or a z of another width.
    Source: Bowman et al. (2016), section 3; chapter "text".
    """

    def __init__(self, vocabulary_size, length, *, word_dim=32, hidden_dim=96, latent_dim=16):
        super().__init__()
        check_sizes(vocabulary_size=vocabulary_size, length=length, word_dim=word_dim,
                    hidden_dim=hidden_dim, latent_dim=latent_dim)
        self.shape, self.latent_dim = (length, vocabulary_size), latent_dim
        self.words = nn.Linear(vocabulary_size, word_dim, bias=False)
        nn.init.normal_(self.words.weight)  # the default is for many inputs at once, not for one
        self.reader = nn.GRU(word_dim, hidden_dim, batch_first=True)
        self.mu = nn.Linear(hidden_dim, latent_dim)
        self.log_var = nn.Linear(hidden_dim, latent_dim)
        self.start = nn.Linear(latent_dim, hidden_dim)
        self.place_marks = nn.Parameter(torch.randn(length, word_dim))
        self.writer = nn.GRU(word_dim + latent_dim, hidden_dim, batch_first=True)
        self.logits = nn.Linear(hidden_dim, vocabulary_size)

    def encode(self, x):
        """Centre and log variance of q(z given x): (B, D) -> two of (B, L)."""
        places = self._places(x)
        states, _ = self.reader(self.words(places))  # (B, T, H)
        taken = places.any(dim=2, keepdim=True)
        h = (states * taken).sum(dim=1)
        return self.mu(h), self.log_var(h)

    def next_word_logits(self, heard, z):
        """Logits of the word at each place, given the words before it: -> (B, T, V).

        The writer is told the words of ``heard``, one place late.
        """
        check_rows(z, self.latent_dim, "z")
        before = F.pad(self.words(self._places(heard)), (0, 0, 1, -1))  # nothing, word 1, word 2
        told = torch.cat([before + self.place_marks, z[:, None].expand(-1, self.shape[0], -1)], 2)
        return self.logits(self.writer(told, self._first_state(z))[0])

    def log_px_z(self, x, z, heard=None):
        """Log probability of the sentences, given z: (B, D), (B, L) -> (B,) in nats.

        ``heard`` (B, D) are the words that the writer is told in place of those of x.
        """
        logits = self.next_word_logits(x if heard is None else heard, z)
        return (self._places(x) * logits.log_softmax(dim=2)).sum(dim=(1, 2))

    @torch.no_grad()
    def write(self, z, temperature=1.0, generator=None):
        """A sentence for each z, word after word, as one-hot rows: (B, L) -> (B, D).

        Each word is drawn from the writer's probabilities to the power of 1 / ``temperature``;
        at 0 it is the likeliest one, and nothing is drawn.
        """
        check_rows(z, self.latent_dim, "z")
        state, word = self._first_state(z), z.new_zeros(len(z), 1, self.shape[1])
        going, places = 1.0, []
        for mark in self.place_marks:
            told = torch.cat([self.words(word) + mark, z[:, None]], dim=2)
            states, state = self.writer(told, state)
            number = _pick(self.logits(states[:, 0]), temperature, generator)
            word = F.one_hot(number, self.shape[1]).to(z)[:, None]
            places.append(going * word)
            going = going * (number != 0).to(z)[:, None, None]  # END has the number 0
        return torch.cat(places, dim=1).flatten(1)

    def decode(self, z):
        """The likeliest word after the likeliest word, as one-hot rows: (B, L) -> (B, D)."""
        return self.write(z, temperature=0.0)

    def _first_state(self, z):
        return torch.tanh(self.start(z))[None]

    def _places(self, x):
        length, size = self.shape
        if x.ndim != 2 or x.shape[1] != length * size:
            raise ValueError(
                f"x has shape {tuple(x.shape)}, but (B, {length * size}) is wanted: {length} "
                f"places of {size} words, as Vocabulary.rows gives them"
            )
        return x.view(-1, length, size)


def _pick(logits, temperature, generator):
    """The number of a word for each row of logits: (B, V) -> (B,)."""
    if temperature == 0:
        return logits.argmax(dim=1)
    probabilities = (logits / temperature).softmax(dim=1)
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0]


def drop_words(x, rate, shape, generator=None):
    """Each word replaced by zeros with probability ``rate``: (B, D) -> (B, D).

    ``shape`` is (length, vocabulary_size).
    """
    kept = torch.rand(len(x), shape[0], 1, generator=generator, device=x.device) >= rate
    return (x.view(-1, *shape) * kept).flatten(1)


def with_word_dropout(rate):
    """The objective ``elbo_terms``, but while it learns the writer hears only some of the words.

    Each word that it is told as the one before is missing with probability ``rate``; it must write
    all of them all the same, and z is where to learn them. Measured is without gaps: the ELBO.

    Shapes: the objective gives Terms of two (B,).  Units: nats.
    Raises: ValueError unless rate lies between 0 and 1.
    Source: Bowman et al. (2016), section 3.1; chapter "text".
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate is {rate}: it must lie between 0 and 1")

    def objective(model, x, generator=None):
        mu, log_var = model.encode(x)
        z = reparameterize(mu, log_var, generator)
        heard = drop_words(x, rate, model.shape, generator) if model.training else x
        return Terms(model.log_px_z(x, z, heard), kl_to_standard_normal(mu, log_var))

    return objective


def late_ramp(start, end, top=1.0):
    """A weight for the KL: 0 until ``start``, then climbing, and ``top`` from ``end`` on.

    Raises: ValueError unless 0 <= start < end <= 1.
    Source: Bowman et al. (2016), section 3.1; chapter "text".
    """
    if not 0 <= start < end <= 1:
        raise ValueError(f"start is {start} and end {end}: 0 <= start < end <= 1 is wanted")
    return lambda done: top * min(1.0, max(0.0, (done - start) / (end - start)))


# Your own file.

LONGEST = {"words": 20, "characters": 80}
LEAST_SENTENCES = 200
MOST_WORDS = 500
MOST_UNKNOWN = 0.1  # of the words of a sentence
MOST_NUMBERS = 60_000_000  # of float32, in all rows together: 240 MB
HOW_TO_CONVERT = "Save it as UTF-8 text, or convert it: iconv -f {} -t UTF-8 FILE > NEW_FILE"
SENTENCE_END = re.compile(r"(?<=[.!?…])\s+|(?<=[.!?…][\"'”’»)])\s+|(?<=[。！？])\s*")


def read_text(path):
    """The text of a UTF-8 file, with or without a byte order mark and with any line ends.

    Raises: FileNotFoundError; IsADirectoryError for a folder; ValueError for a file that is
    empty or not UTF-8 text, with the place of the first wrong byte, counted from 1.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give one text file")
    data = path.read_bytes()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(f"{path} is UTF-16 text. {HOW_TO_CONVERT.format('UTF-16')}")
    if b"\0" in data:
        raise ValueError(f"{path} is no text: its byte {data.index(0) + 1} is NUL. A document of a "
                         "word processor must be saved as plain text first.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path} is not UTF-8: byte {error.start + 1}, in line {line}, is "
            f"0x{data[error.start]:02X}. {HOW_TO_CONVERT.format('WINDOWS-1252')} (or from the "
            "encoding that it has)"
        ) from None
    if not text.strip():
        raise ValueError(f"{path} is empty: at least {LEAST_SENTENCES} sentences are wanted")
    return "\n".join(text.splitlines())


def split_sentences(text):
    """The sentences of a text: cut behind . ! ? … 。！？ and at empty lines, white space evened.

    A text with few such marks, fewer than one to eight lines, is cut at its lines instead:
    names, titles, verses.
    """
    lines = [line.strip() for line in text.splitlines()]
    if 8 * len(SENTENCE_END.findall(text + "\n")) < sum(map(bool, lines)):
        found = lines
    else:
        found = [sentence for paragraph in "\n".join(lines).split("\n\n")
                 for sentence in SENTENCE_END.split(paragraph)]
    return [" ".join(sentence.split()) for sentence in found if sentence.strip()]


class Corpus(NamedTuple):
    """Sentences of a file that were kept, their vocabulary, and the count of those left out."""

    sentences: list
    vocabulary: Vocabulary
    left_out: dict

    @property
    def report(self):
        """What was kept and what was left out, in two lines."""
        vocabulary, unit = self.vocabulary, self.vocabulary.unit
        sizes = [len(tokens(sentence, unit)) for sentence in self.sentences]
        unknown = sum(map(vocabulary.unknown_share, self.sentences)) / len(self.sentences)
        return (f"{len(sizes):,} sentences of {min(sizes)} to {max(sizes)} {unit}; "
                f"{len(vocabulary.words) - 2} different {unit} are listed, and {unknown:.1%} of a "
                f"sentence is rare, written {UNKNOWN}.\nLeft out: {_listed(self.left_out)}.")


def corpus_of(sentences, unit=None):
    """The sentences that a ``SentenceVAE`` can be trained on, each once, and their vocabulary.

    ``unit`` is "words" or "characters"; by default words where a sentence has three or more of
    them on average, and else characters. Left out, and counted, are sentences of fewer than two
    or more than ``LONGEST`` of them, repeats, those with too many rare words, and the last ones
    if not all fit into memory.

    Raises: ValueError if fewer than ``LEAST_SENTENCES`` are left.
    """
    sentences, left_out = list(sentences), {}

    def leave_out(why, kept):
        left_out[why] = len(sentences) - sum(left_out.values()) - len(kept)
        return kept

    unit = unit or _fitting_unit(sentences)
    check_choice("unit", unit, UNITS)
    most = LONGEST[unit]
    size = {each: len(tokens(each, unit)) for each in sentences}
    kept = leave_out(f"of fewer than 2 {unit}", [each for each in sentences if size[each] > 1])
    kept = leave_out(f"of more than {most} {unit}", [each for each in kept if size[each] <= most])
    kept = leave_out("repeats", list(dict.fromkeys(kept)))
    _check_enough(kept, unit, left_out)
    vocabulary = vocabulary_of(kept, unit, most=MOST_WORDS)
    kept = leave_out(f"with many rare {unit}", [
        each for each in kept if vocabulary.unknown_share(each) <= MOST_UNKNOWN])
    _check_enough(kept, unit, left_out)
    vocabulary = vocabulary_of(kept, unit, most=MOST_WORDS)
    room = MOST_NUMBERS // (vocabulary.length * len(vocabulary.words))
    kept = leave_out("beyond the memory allowed", kept[:room])
    return Corpus(kept, vocabulary, left_out)


def _check_enough(kept, unit, left_out):
    if len(kept) < LEAST_SENTENCES:
        raise ValueError(
            f"{len(kept)} different sentences of 2 to {LONGEST[unit]} {unit} are too few: at "
            f"least {LEAST_SENTENCES} are wanted. Left out: {_listed(left_out)}."
        )


def _fitting_unit(sentences):
    """Words, if a sentence has three or more of them on average, and else characters."""
    num_words = sum(len(tokens(sentence, "words")) for sentence in sentences)
    return "words" if num_words >= 3 * len(sentences) else "characters"


def _listed(left_out):
    return ", ".join(f"{count:,} {why}" for why, count in left_out.items() if count) or "nothing"


def train_to_write(vocabulary, x, *, epochs, test_x=None, seed=0, name=None):
    """A ``SentenceVAE`` that uses its latents, since it is charged for them late; its history.

    Shapes: x, test_x (N, length * V), as ``vocabulary.rows`` gives them.
    Source: Bowman et al. (2016), section 3.1; chapter "text".
    """
    torch.manual_seed(seed)
    model = SentenceVAE(len(vocabulary.words), vocabulary.length)
    history = fit(
        model, x, elbo_terms, epochs=epochs, batch_size=64, learning_rate=1e-2,
        schedule=cosine(0.05), kl_weight=late_ramp(0.3, 0.8), test_images=test_x,
        precision="medium", seed=seed, name=name,
    )
    return model, history


def mean_path(model, start, end, steps):
    """Sentences on the way from one to another, each the likeliest for its z, as one-hot rows.

    The z stand on the straight line between the centres of the two clouds.

    Shapes: start, end (D,) -> (steps, D).
    """
    with torch.no_grad():
        mu, _ = model.encode(torch.stack([start, end]))
    return model.decode(interpolate(mu[0], mu[1], steps))


# The command.


def demonstration(model, vocabulary, x, num=8, seed=0):
    """New sentences, copies of some of x and a way from one to another, as text.

    Shapes: x (N, length * V), N >= 2.
    """
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(num, model.latent_dim, generator=generator)
    with torch.no_grad():
        mu, _ = model.encode(x[:num])
    new = vocabulary.sentences(model.write(z, 0.5, generator))
    pairs = zip(vocabulary.sentences(x[:num]), vocabulary.sentences(model.decode(mu)))
    way = vocabulary.sentences(mean_path(model, x[0], x[1], 6))
    return "\n".join(["", "New sentences:", *new, "", "Copies of sentences held out:",
                      *[f"{one}\n    -> {copy}" for one, copy in pairs],
                      "", "On the way from one to another:", *way])


def main(arguments=None):
    """Trains on a file and prints what came out; gives the exit code, 2 if the file will not do."""
    parser = argparse.ArgumentParser(
        prog="python -m vae_lessons.text",
        description="Train a small sentence VAE on a UTF-8 text file and print new sentences.",
    )
    parser.add_argument("file")
    parser.add_argument("--unit", choices=UNITS, help="default: decided by the text")
    parser.add_argument("--epochs", type=int, default=12)
    options = parser.parse_args(arguments)
    try:
        corpus = corpus_of(split_sentences(read_text(options.file)), options.unit)
        print(corpus.report)
        x = corpus.vocabulary.rows(corpus.sentences)
        test = len(x) // 10
        shuffled = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))]
        model, _ = train_to_write(corpus.vocabulary, shuffled[test:], epochs=options.epochs,
                                  test_x=shuffled[:test], name=Path(options.file).name)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    print(demonstration(model, corpus.vocabulary, shuffled[:test]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
