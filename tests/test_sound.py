"""Notes as sound and as a MIDI file, against Fourier transforms and two other readers."""

import io
import math
import random
import wave

import mido
import numpy as np
import pytest

from vae_lessons import sound as module
from vae_lessons.sound import (
    EIGHTH,
    RATE,
    Note,
    midi_bytes,
    show_players,
    synthesize,
    wav_bytes,
)

STEPS = 16


def random_notes(seed):
    """Notes one after the other, with rests between some of them."""
    chance, notes, step = random.Random(seed), [], 0
    while step < STEPS:
        length = chance.randint(1, min(4, STEPS - step))
        if chance.random() < 0.7:
            notes.append(Note(chance.randint(60, 83), step, length))
        step += length
    return notes


# Sound


def loudest_frequency(sound):
    spectrum = np.abs(np.fft.rfft(sound))
    return np.fft.rfftfreq(len(sound), 1 / RATE)[spectrum.argmax()]


@pytest.mark.parametrize(("pitch", "frequency"), [(69, 440.0), (60, 261.63), (81, 880.0)])
def test_a_held_note_has_its_frequency(pitch, frequency):
    sound = synthesize([Note(pitch, 0, STEPS)], STEPS)
    assert abs(loudest_frequency(sound) - frequency) <= RATE / len(sound)


def test_notes_sound_when_they_should():
    sound = synthesize([Note(69, 2, 2), Note(72, 12, 3)], STEPS)
    step = round(EIGHTH * RATE)
    loud = [np.abs(sound[k * step : (k + 1) * step]).max() > 0.01 for k in range(STEPS + 1)]
    assert [k for k in range(STEPS + 1) if loud[k]] == [2, 3, 12, 13, 14]
    assert abs(loudest_frequency(sound[2 * step : 4 * step]) - 440) <= RATE / (2 * step)
    assert np.abs(sound).max() <= 1 and len(sound) == (STEPS + 1) * step


def test_no_click_where_a_note_begins_or_ends():
    """A sudden jump would be one: the sound begins and ends at zero and gets there slowly."""
    step = round(EIGHTH * RATE)
    sound = synthesize([Note(60, 1, 1), Note(83, 2, 1)], 3)
    for edge in (step, 2 * step, 3 * step):
        assert np.abs(sound[edge - 4 : edge + 4]).max() < 0.05
    assert np.abs(sound).max() > 0.4


def test_a_tone_has_three_parts_and_the_highest_fits_the_rate():
    """Of a B5: at one, two and three times its frequency; one beyond RATE / 2 would fold back."""
    sound = synthesize([Note(83, 0, STEPS)], STEPS)
    spectrum = np.abs(np.fft.rfft(sound))
    frequencies = np.fft.rfftfreq(len(sound), 1 / RATE) / (440 * 2 ** ((83 - 69) / 12))
    parts = [spectrum[np.abs(frequencies - part) < 0.05].max() for part in (1, 2, 3)]
    assert np.allclose(np.array(parts) / parts[0], [1, 1 / 4, 1 / 9], rtol=0.15)
    elsewhere = np.abs(frequencies - np.clip(np.round(frequencies), 1, 3)) > 0.05
    assert spectrum[elsewhere].max() < 0.02 * parts[0]


def test_wav_is_read_back():
    sound = synthesize(random_notes(0), STEPS)
    with wave.open(io.BytesIO(wav_bytes(sound))) as wav:
        assert (wav.getnchannels(), wav.getsampwidth(), wav.getframerate()) == (1, 2, RATE)
        read = np.frombuffer(wav.readframes(wav.getnframes()), "<i2") / 32767
    assert np.abs(read - sound).max() < 1 / 32767
    assert len(wav_bytes(sound[:0])) == 44, "a header and nothing else"
    with pytest.raises(ValueError, match="reaches 2"):
        wav_bytes(np.array([0.0, 2.0]))


def test_players(monkeypatch):
    shown = []
    monkeypatch.setattr(module, "display", lambda data, raw: shown.append(data))
    sound = synthesize([Note(60, 0, 1)], 1)
    show_players({"one <b>": sound, "two": sound})
    page = shown[0]["text/html"]
    assert page.count("<audio controls") == page.count("data:audio/wav;base64,UklGR") == 2
    assert "autoplay" not in page and "one &lt;b&gt;" in page and "<b>" not in page
    assert shown[0]["text/plain"] == "[sound] one <b>\n[sound] two"


# MIDI


def heard(file):
    """The notes of a MIDI file in seconds, as mido reads them: [(pitch, start, end)]."""
    now, sounding, notes = 0.0, {}, []
    for message in file:
        now += message.time
        if message.type == "note_on":
            assert message.note not in sounding
            sounding[message.note] = now
        elif message.type == "note_off":
            notes.append((message.note, sounding.pop(message.note), now))
    assert not sounding
    return sorted(notes, key=lambda note: note[1])


@pytest.mark.parametrize("notes", [[], *map(random_notes, range(20))])
def test_midi_as_mido_reads_it(notes):
    file = mido.MidiFile(file=io.BytesIO(midi_bytes(notes, STEPS)))
    assert file.type == 0 and len(file.tracks) == 1
    wanted = [(pitch, start * EIGHTH, (start + length) * EIGHTH) for pitch, start, length in notes]
    assert np.allclose(heard(file) or np.empty((0, 3)), wanted or np.empty((0, 3)))
    assert math.isclose(file.length, STEPS * EIGHTH), "two whole bars"
    assert midi_bytes(notes[::-1], STEPS) == midi_bytes(notes, STEPS), "in any order"


def test_midi_as_music21_reads_it(tmp_path):
    music21 = pytest.importorskip("music21")
    for seed in range(3):
        (tmp_path / "one.mid").write_bytes(midi_bytes(random_notes(seed), STEPS))
        score = music21.converter.parse(tmp_path / "one.mid", forceSource=True)
        notes = score.stripTies().flatten().notes
        read = [(note.pitch.midi, 2 * note.offset, 2 * note.quarterLength) for note in notes]
        assert read == [tuple(note) for note in random_notes(seed)]


def test_a_long_wait_takes_two_bytes_or_more():
    """8,192 ticks are the example of the standard: 0xC0 0x00."""
    for number, wanted in [(0, "00"), (0x7F, "7f"), (0x80, "8100"), (0x2000, "c000"),
                           (0x3FFF, "ff7f"), (0x4000, "818000")]:
        assert module._variable_length(number).hex() == wanted


@pytest.mark.parametrize("note", [
    Note(60, -1, 2), Note(60, 0, 0), Note(60, 15, 2), Note(-1, 0, 1), Note(128, 0, 1),
])
def test_notes_that_do_not_fit_are_refused(note):
    for function in (midi_bytes, synthesize):
        with pytest.raises(ValueError, match="does not fit: pitches run from 0 to 127"):
            function([note], STEPS)
