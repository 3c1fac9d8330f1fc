"""Sentences: the grammar and its entropy, rows and back, the model, and files of every kind."""

import itertools
import math
import subprocess
import sys

import pytest
import torch

from vae_lessons import text
from vae_lessons.elbo import elbo_terms
from vae_lessons.text import (
    END,
    UNKNOWN,
    Corpus,
    Factors,
    SentenceVAE,
    Vocabulary,
    corpus_of,
    demonstration,
    draw_factors,
    drop_words,
    factor_tables,
    grammar_entropy,
    late_ramp,
    log_prob,
    main,
    mean_path,
    parse,
    read_text,
    sentence_of,
    split_sentences,
    tokens,
    train_to_write,
    vocabulary_of,
    with_word_dropout,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def tiny(size=3, length=3):
    """A tiny model in float64 that was never trained, its parameters shaken."""
    torch.manual_seed(0)
    model = SentenceVAE(size, length, word_dim=4, hidden_dim=5, latent_dim=2).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.5 * torch.randn_like(parameter)
    return model


def rows_of(sentences, size=3, length=3):
    """One-hot rows from lists of word numbers, made with a loop."""
    rows = torch.zeros(len(sentences), length, size, dtype=torch.float64)
    for row, sentence in zip(rows, sentences):
        for place, number in enumerate(sentence):
            row[place, number] = 1
    return rows.flatten(1)


def every_sentence(size=3, length=3):
    """All sentences of a tiny vocabulary as word numbers: those that END (0), and full ones."""
    for num in range(length + 1):
        for words in itertools.product(range(1, size), repeat=num):
            yield [*words, 0][:length]


# The grammar


def test_entropy_against_the_sum_over_all_sentences():
    """Every sentence there is, its probability a product, added up factor by factor."""
    total, entropy = 0.0, 0.0
    for tense, verb in itertools.product(text.TENSE, text.VERB):
        tables = factor_tables(tense, verb)._replace(tense={tense: text.TENSE[tense]},
                                                     verb={verb: text.VERB[verb]})
        p = torch.ones(1, dtype=torch.float64)
        for table in tables:
            p = torch.outer(p, torch.tensor(list(table.values()), dtype=torch.float64)).flatten()
        total += p.sum().item()
        entropy += torch.special.entr(p).sum().item()
    assert total == pytest.approx(1, abs=1e-12)
    assert grammar_entropy() == pytest.approx(entropy, abs=1e-9)


def test_entropy_is_the_mean_of_minus_log_prob():
    values = torch.tensor([-log_prob(factors) for factors in draw_factors(20_000, seed=3)])
    assert abs(values.mean() - grammar_entropy()) < 6 * values.std() / 20_000**0.5


def test_draws_have_the_probabilities_of_the_tables():
    num = 20_000
    draws = draw_factors(num, seed=4)
    for name in Factors._fields:
        for tense, verb in [("past", "cook"), ("future", "admire")]:
            table = getattr(factor_tables(tense, verb), name)
            assert sum(table.values()) == pytest.approx(1)
            among = [each for each in draws if (name != "time" or each.tense == tense)
                     and (name != "object" or each.verb == verb)]
            for option, p in table.items():
                share = sum(getattr(each, name) == option for each in among) / len(among)
                assert abs(share - p) < 6 * (p * (1 - p) / len(among)) ** 0.5


def test_draws_follow_their_seed():
    assert draw_factors(20, seed=1) == draw_factors(20, seed=1) != draw_factors(20, seed=2)
    assert draw_factors(0, seed=1) == []


def test_no_two_choices_make_the_same_sentence():
    """Parsing gives back what was drawn, so the sentence tells the factors: one entropy."""
    for factors in draw_factors(5_000, seed=5):
        assert parse(sentence_of(factors)) == factors


def test_sentences_written_by_hand():
    factors = Factors("present", "often", "tired", "pirate", "several", "juggle", "enormous",
                      "egg", "moon")
    assert sentence_of(factors) == "often the tired pirates juggle an enormous egg on the moon"
    factors = factors._replace(number="one", mood="", look="")
    assert sentence_of(factors) == "often the pirate juggles an egg on the moon"
    factors = factors._replace(tense="past", time="once", object="melon")
    assert sentence_of(factors) == "once the pirate juggled a melon on the moon"
    factors = factors._replace(tense="future", time="soon", verb="cook", object="pie")
    assert sentence_of(factors) == "soon the pirate will cook a pie on the moon"


@pytest.mark.parametrize("wrong", [
    "",
    "often",
    "often the pirate juggle an egg on the moon",
    "often the pirates juggles an egg on the moon",
    "often the pirate will juggle an egg on the moon",
    "often the pirates will juggle an egg on the moon",
    "soon the pirate juggle an egg on the moon",
    "often the pirate juggled an egg on the moon",
    "soon the pirate juggles an egg on the moon",
    "once the pirate juggleed an egg on the moon",
    "once the pirate cookd an egg on the moon",
    "often the pirate juggles a egg on the moon",
    "often the pirate juggles an melon on the moon",
    "often the pirate juggles an red egg on the moon",
    "often the pirate juggles an elephant on the moon",
    "often the pirate juggles an egg in the moon",
    "often the pirate juggles an egg on the sun",
    "often the pirate juggles an egg on the moon moon",
    "often the pirate juggles an egg on the",
    "often the red pirate juggles an egg on the moon",
    "often pirate the juggles an egg on the moon",
    "never the pirate juggles an egg on the moon",
    "often  the pirate juggles an egg on the moon",
])
def test_parse_refuses(wrong):
    assert parse("often the pirate juggles an egg on the moon") is not None
    assert parse(wrong) is None


# Rows and back


def test_tokens_of_words_and_of_characters():
    assert tokens('No, "it\'s"  new!', "words") == ["No", ",", '"', "it's", '"', "new", "!"]
    assert tokens("Ah, 你", "characters") == ["A", "h", ",", " ", "你"]


def test_rows_by_hand():
    vocabulary = Vocabulary(["a", "b"], length=3)
    assert vocabulary.words == [END, "a", "b"]
    rows = vocabulary.rows(["b", "a b a", ""])
    assert rows.equal(rows_of([[2, 0], [1, 2, 1], [0]]).float())


@pytest.mark.parametrize("unit", ["words", "characters"])
def test_rows_and_back(unit):
    sentences = ["once the egg", "the egg", "egg the once", ""]
    vocabulary = vocabulary_of(sentences, unit)
    assert vocabulary.sentences(vocabulary.rows(sentences)) == sentences
    assert vocabulary.sentences(vocabulary.rows([])) == []


def test_vocabulary_counts_and_cuts():
    sentences = ["b a c", "a b", "a d", "e"]
    assert vocabulary_of(sentences).words == [END, "a", "b", "c", "d", "e"]
    assert vocabulary_of(sentences).length == 3
    cut = vocabulary_of(sentences, most=10)
    assert cut.words == [END, UNKNOWN, "a", "b"], "what stands there twice"
    assert vocabulary_of(sentences, most=1).words == [END, UNKNOWN, "a"]
    assert cut.sentences(cut.rows(["a c b"])) == [f"a {UNKNOWN} b"]


def test_vocabulary_refuses():
    for sentences in ([], ["", " "]):
        with pytest.raises(ValueError, match="no sentence with a word in it"):
            vocabulary_of(sentences)
    for make in (lambda: vocabulary_of(["a"], "syllables"), lambda: Vocabulary(["a"], 2, "bytes")):
        with pytest.raises(ValueError, match="choose one of 'words', 'characters'"):
            make()
    vocabulary = vocabulary_of(["a b"])
    with pytest.raises(ValueError, match="'a b a' has 3 words, but at most 2"):
        vocabulary.rows(["a", "a b a"])
    with pytest.raises(ValueError, match="'c' is none of the words known"):
        vocabulary.rows(["a c"])


# The model


@pytest.mark.parametrize("size, length", [(3, 3), (2, 4)])
def test_probabilities_of_all_sentences_add_up_to_one(size, length):
    model, z = tiny(size, length), torch.randn(1, 2, generator=seeded(), dtype=torch.float64)
    rows = rows_of(list(every_sentence(size, length)), size, length)
    with torch.no_grad():
        total = model.log_px_z(rows, z.expand(len(rows), -1)).logsumexp(dim=0)
    assert abs(total) < 1e-12


def test_log_px_z_by_hand():
    """One GRU cell at a time, each told the word before and z."""
    model, z = tiny(), torch.randn(1, 2, generator=seeded(), dtype=torch.float64)
    cell = torch.nn.GRUCell(4 + 2, 5).double()
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        setattr(cell, name, getattr(model.writer, f"{name}_l0"))
    for sentence in ([2, 1, 0], [1, 0], [2, 2, 2], [0]):
        h, total = torch.tanh(model.start(z)), 0.0
        before = torch.zeros(1, 4, dtype=torch.float64)
        for place, number in enumerate(sentence):
            h = cell(torch.cat([before + model.place_marks[place], z], dim=1), h)
            total += model.logits(h).log_softmax(dim=1)[0, number]
            before = model.words.weight[:, number][None]
        torch.testing.assert_close(model.log_px_z(rows_of([sentence]), z)[0], total)


def test_a_word_does_not_depend_on_later_words():
    model, z = tiny(4, 5), torch.randn(1, 2, generator=seeded(), dtype=torch.float64)
    one, other = rows_of([[1, 2, 3, 1, 2]], 4, 5), rows_of([[1, 2, 1, 3, 0]], 4, 5)
    first, second = model.next_word_logits(one, z), model.next_word_logits(other, z)
    assert first[:, :3].equal(second[:, :3]), "the words before place 3 are the same"
    assert not first[:, 3].allclose(second[:, 3]), "and the word of place 2 is told to place 3"


def test_places_behind_the_end_count_for_nothing():
    torch.manual_seed(0)
    short, long = tiny(3, 3), tiny(3, 6)
    shared = {**short.state_dict()}
    del shared["place_marks"]
    long.load_state_dict(shared, strict=False)
    with torch.no_grad():
        long.place_marks[:3] = short.place_marks
    z = torch.randn(1, 2, generator=seeded(), dtype=torch.float64)
    x, padded = rows_of([[2, 1, 0]]), rows_of([[2, 1, 0]], length=6)
    torch.testing.assert_close(short.log_px_z(x, z), long.log_px_z(padded, z))
    for one, other in zip(short.encode(x), long.encode(padded)):
        torch.testing.assert_close(one, other)


def test_encoder_reads_every_word_and_their_order():
    model = tiny(4, 4)
    mu, _ = model.encode(rows_of([[1, 2, 3, 0], [2, 1, 3, 0], [1, 2, 2, 0], [3, 2, 3, 0]], 4, 4))
    assert torch.cdist(mu, mu).add(torch.eye(4)).min() > 1e-4


@pytest.mark.parametrize("num", [0, 1, 4])
def test_shapes(num):
    model, x = tiny(), rows_of([[1, 2, 0]] * num)
    z, _ = model.sample_posterior(x, seeded())
    assert model.write(z, generator=seeded()).shape == model.decode(z).shape == (num, 9)
    assert model.next_word_logits(x, z).shape == (num, 3, 3)
    assert model(x, seeded())[0].shape == (num, 9)


def test_refuses_other_shapes_and_sizes():
    model = tiny()
    for part in (model.encode, lambda x: model.log_px_z(x, torch.zeros(2, 2).double())):
        with pytest.raises(ValueError, match=r"x has shape \(2, 8\), but \(B, 9\) is wanted: 3 p"):
            part(torch.zeros(2, 8).double())
    for part in (model.write, model.decode, lambda z: model.log_px_z(rows_of([[0]]), z)):
        with pytest.raises(ValueError, match=r"z has shape \(1, 3\), but \(B, 2\) is wanted"):
            part(torch.zeros(1, 3).double())
    for sizes in ({"vocabulary_size": 0}, {"length": 0}, {"latent_dim": 0}, {"hidden_dim": 1.5}):
        with pytest.raises(ValueError, match="must be a whole number of 1 or more"):
            SentenceVAE(**{"vocabulary_size": 3, "length": 3, **sizes})


def test_what_is_written_has_the_probabilities_that_the_model_says():
    model, num = tiny(), 20_000
    z = torch.randn(1, 2, generator=seeded(), dtype=torch.float64)
    written = model.write(z.expand(num, -1), generator=seeded(1))
    for sentence in every_sentence():
        row = rows_of([sentence])
        p = model.log_px_z(row, z).exp().item()
        share = (written == row).all(dim=1).double().mean().item()
        assert abs(share - p) < 6 * (p * (1 - p) / num) ** 0.5 + 1e-9
    assert written.unique(dim=0).shape[0] <= len(list(every_sentence())), "and nothing else"


def test_temperature_sharpens_each_word():
    """In the first place the probabilities are a softmax of the logits over the temperature."""
    model, num = tiny(), 20_000
    z = torch.randn(1, 2, generator=seeded(), dtype=torch.float64)
    logits = model.next_word_logits(rows_of([[0]]), z)[0, 0]
    for temperature in (0.5, 2.0):
        written = model.write(z.expand(num, -1), temperature, seeded(2))[:, :3].mean(dim=0)
        p = torch.softmax(logits / temperature, dim=0)
        assert ((written - p).abs() < 6 * (p * (1 - p) / num).sqrt()).all()


def test_greedy_writing_takes_the_likeliest_word_each_time():
    model, z = tiny(4, 5), torch.randn(6, 2, generator=seeded(), dtype=torch.float64)
    rows = model.decode(z)
    assert rows.equal(model.write(z, temperature=0.0))
    best = model.next_word_logits(rows, z).argmax(dim=2)
    for row, numbers in zip(rows.view(6, 5, 4), best.tolist()):
        cut = numbers[: numbers.index(0) + 1] if 0 in numbers else numbers
        assert row.flatten().equal(rows_of([cut], 4, 5)[0])


# Training


def test_word_dropout_zeroes_whole_words_at_its_rate():
    x = rows_of([[1, 2, 1]]).expand(5_000, -1)
    dropped = drop_words(x, 0.3, (3, 3), seeded())
    places, before = dropped.view(-1, 3, 3), x.reshape(-1, 3, 3)
    gone = places.sum(dim=2) == 0
    assert (places[~gone] == before[~gone]).all()
    assert abs(gone.double().mean() - 0.3) < 6 * (0.21 / 15_000) ** 0.5
    assert drop_words(x, 0.0, (3, 3)).equal(x) and not drop_words(x, 1.0, (3, 3)).any()
    assert dropped.equal(drop_words(x, 0.3, (3, 3), seeded()))


def test_the_objective_with_word_dropout():
    model, x = tiny(), rows_of([[1, 2, 0], [2, 0], [1, 1, 2]])
    assert not model.training
    for mine, plain in zip(with_word_dropout(0.9)(model, x, seeded()),
                           elbo_terms(model, x, seeded())):
        assert mine.equal(plain), "when it does not learn, nothing is dropped"
    model.train()
    mine = with_word_dropout(0.5)(model, x, seeded())
    assert mine.reconstruction.equal(with_word_dropout(0.5)(model, x, seeded()).reconstruction)
    assert not mine.reconstruction.equal(elbo_terms(model, x, seeded()).reconstruction)
    z, _ = model.sample_posterior(x, seeded())
    deaf = model.log_px_z(x, z, heard=torch.zeros_like(x))
    torch.testing.assert_close(with_word_dropout(1)(model, x, seeded()).reconstruction, deaf)
    torch.testing.assert_close(model.log_px_z(x, z, heard=x), model.log_px_z(x, z))


@pytest.mark.parametrize("rate", [-0.1, 1.1, math.nan])
def test_word_dropout_refuses(rate):
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        with_word_dropout(rate)


def test_late_ramp():
    weight = late_ramp(0.2, 0.7, top=0.5)
    assert [weight(done) for done in (0.0, 0.2, 0.7, 1.0)] == [0, 0, 0.5, 0.5]
    assert weight(0.45) == pytest.approx(0.25)
    assert late_ramp(0, 1)(0.3) == pytest.approx(0.3)
    for start, end in ((-0.1, 0.5), (0.5, 0.5), (0.2, 1.1)):
        with pytest.raises(ValueError, match="0 <= start < end <= 1 is wanted"):
            late_ramp(start, end)


def test_it_learns_to_copy_two_sentences():
    sentences = ["the egg sings", "a hat"] * 32
    vocabulary = vocabulary_of(sentences)
    x = vocabulary.rows(sentences)
    model, history = train_to_write(vocabulary, x, epochs=40, name="two sentences")
    again, _ = train_to_write(vocabulary, x, epochs=40, name="two sentences")
    assert len(history) == 40
    mu, _ = model.encode(x)
    assert vocabulary.sentences(model.decode(mu)) == sentences
    assert all(a.equal(b) for a, b in zip(model.parameters(), again.parameters()))
    path = vocabulary.sentences(mean_path(model, x[0], x[1], 5))
    assert len(path) == 5 and (path[0], path[-1]) == ("the egg sings", "a hat")


# Files


def written(tmp_path, data):
    file = tmp_path / "a file.txt"
    file.write_bytes(data)
    return file


@pytest.mark.parametrize("data", ["Ä b.\nc\n".encode(), b"\xef\xbb\xbf" + "Ä b.\r\nc".encode(),
                                  "Ä b.\rc\r".encode()])
def test_reads_utf8_with_and_without_a_mark_and_with_any_line_ends(tmp_path, data):
    assert read_text(written(tmp_path, data)) == "Ä b.\nc"
    assert read_text(str(written(tmp_path, data))) == "Ä b.\nc"


@pytest.mark.parametrize("data, message", [
    (b"", "is empty: at least 200 sentences"),
    (b" \r\n\t\n", "is empty"),
    (b"\xef\xbb\xbf", "is empty"),
    (b"abc\0def", "is no text: its byte 4 is NUL"),
    ("word".encode("utf-16"), "is UTF-16 text.*iconv -f UTF-16 -t UTF-8"),
    (b"one\ntwo \xe4\n", "is not UTF-8: byte 9, in line 2, is 0xE4.*iconv -f WINDOWS-1252"),
])
def test_refuses_what_is_no_text(tmp_path, data, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_text(written(tmp_path, data))
    assert "a file.txt" in str(caught.value)


def test_refuses_a_folder_and_a_missing_file(tmp_path):
    with pytest.raises(IsADirectoryError, match="is a folder: give one text file"):
        read_text(tmp_path)
    with pytest.raises(FileNotFoundError, match="nothing.txt"):
        read_text(tmp_path / "nothing.txt")


@pytest.mark.parametrize("given, wanted", [
    ("One two.\nThree\nfour! Five?\n\nSix", ["One two.", "Three four!", "Five?", "Six"]),
    ('He said "no." Then… he left.', ['He said "no."', "Then…", "he left."]),
    ("Version 3.11 is out.  It\tis new.", ["Version 3.11 is out.", "It is new."]),
    ("你好。再见！好", ["你好。", "再见！", "好"]),
    ("Anna\nBert\n\nCleo", ["Anna", "Bert", "Cleo"]),
    ("", []),
])
def test_splits_into_sentences(given, wanted):
    assert split_sentences(given) == wanted


def some_sentences(num=300):
    return [sentence_of(factors) for factors in draw_factors(num, seed=7)]


def test_a_corpus_leaves_nothing_out_in_silence():
    sentences = some_sentences()
    num = len(set(sentences))
    corpus = corpus_of([*sentences, sentences[0], "no", "", "very " * 21])
    assert isinstance(corpus, Corpus) and corpus.vocabulary.unit == "words"
    assert corpus.sentences == list(dict.fromkeys(sentences))
    assert list(corpus.left_out.values()) == [2, 1, 301 - num, 0, 0]
    assert f"{num} sentences of" in corpus.report
    assert "Left out: 2 of fewer than 2 words, 1 of more than 20 words" in corpus.report


def test_a_corpus_leaves_out_sentences_of_rare_words():
    sentences = list(dict.fromkeys(some_sentences()))
    rare = sentences[0].split()
    rare[0], other = "zounds", rare[:-2] + ["gadzooks", "forsooth"]
    corpus = corpus_of([*sentences, " ".join(rare), " ".join(other)])
    assert corpus.left_out["with many rare words"] == 1
    assert " ".join(rare) in corpus.sentences, "one word in ten or more may be rare"
    assert len(rare) >= 10 and corpus.vocabulary.unknown_share(" ".join(rare)) == 1 / len(rare)
    assert corpus.vocabulary.unknown_share("") == 0


def test_a_corpus_without_spaces_is_one_of_characters():
    generator = seeded()
    lines = ["".join(chr(0x4E00 + n) for n in torch.randint(0, 50, (12,), generator=generator))
             for _ in range(250)]
    corpus = corpus_of(lines)
    assert corpus.vocabulary.unit == "characters" and corpus.vocabulary.length == 12
    rows = corpus.vocabulary.rows(corpus.sentences)
    assert corpus.vocabulary.sentences(rows) == corpus.sentences
    assert corpus_of(some_sentences(), "characters").vocabulary.unit == "characters"


def test_a_corpus_too_large_is_cut_and_says_so(monkeypatch):
    monkeypatch.setattr(text, "MOST_NUMBERS", 250 * 12 * 96)
    corpus = corpus_of(some_sentences(400))
    assert len(corpus.sentences) * corpus.vocabulary.rows(["once"]).shape[1] <= 250 * 12 * 96
    assert corpus.left_out["beyond the memory allowed"] > 0
    assert len(corpus.sentences) + sum(corpus.left_out.values()) == 400


def test_a_corpus_too_small_is_refused():
    few = [*dict.fromkeys(some_sentences(220))][:199]
    with pytest.raises(ValueError, match="199 different sentences of 2 to 20 words.* at least 200 "
                                         "are wanted. Left out: 21 of fewer than 2 words."):
        corpus_of([*few, *["no"] * 20, ""], "words")
    with pytest.raises(ValueError, match="0 different sentences.*Left out: nothing"):
        corpus_of([])
    strange = [f"word{n} and{n} so{n} on{n}" for n in range(300)]
    with pytest.raises(ValueError, match="0 different sentences.*300 with many rare words"):
        corpus_of(strange)
    with pytest.raises(ValueError, match="choose one of 'words', 'characters'"):
        corpus_of(few, "syllables")


# The command


def test_the_demonstration():
    vocabulary = vocabulary_of(["the egg sings", "a hat"])
    torch.manual_seed(0)
    model = SentenceVAE(len(vocabulary.words), vocabulary.length)
    x = vocabulary.rows(["the egg sings", "a hat"] * 2)
    lines = demonstration(model, vocabulary, x, num=3).split("\n")
    assert lines == demonstration(model, vocabulary, x, num=3).split("\n")
    assert lines.index("Copies of sentences held out:") - lines.index("New sentences:") == 3 + 2
    shown = vocabulary.sentences(x[:3]) + vocabulary.sentences(model.decode(model.encode(x)[0]))[:3]
    start = lines.index("Copies of sentences held out:") + 1
    copied = lines[start : start + 6]
    assert copied[::2] + [line.removeprefix("    -> ") for line in copied[1::2]] == shown
    way = vocabulary.sentences(mean_path(model, x[0], x[1], 6))
    assert lines[lines.index("On the way from one to another:") + 1 :] == way


def test_the_command_on_a_file(tmp_path, capsys):
    file = written(tmp_path, "\n".join(some_sentences()).encode())
    assert main([str(file), "--epochs", "1"]) == 0
    out = capsys.readouterr().out
    assert "different words are listed" in out and "Left out: " in out
    for heading in ("New sentences", "Copies", "On the way"):
        assert heading in out


@pytest.mark.parametrize("data, message", [(b"Too short.", "at least 200"), (b"\0", "NUL")])
def test_the_command_says_what_is_wrong(tmp_path, capsys, data, message):
    assert main([str(written(tmp_path, data))]) == 2
    said = capsys.readouterr()
    assert message in said.err and said.err.count("\n") == 1
    assert main([str(tmp_path / "nothing.txt")]) == 2


def test_the_command_from_a_shell(tmp_path):
    run = subprocess.run([sys.executable, "-m", "vae_lessons.text", str(tmp_path)],
                         capture_output=True, text=True)
    assert run.returncode == 2 and "is a folder" in run.stderr and "Traceback" not in run.stderr
