"""Notes as sound, in a player on the page, and as a MIDI file."""

import html
import io
import struct
import wave
from base64 import b64encode
from typing import NamedTuple

import numpy as np
from IPython.display import display

EIGHTH, RATE, TICKS = 0.2, 8_000, 240  # seconds, samples a second, MIDI ticks of an eighth note


class Note(NamedTuple):
    """A note: its pitch as a MIDI number, its start and its length in eighth notes."""

    pitch: int
    start: int
    length: int


def synthesize(notes, steps):
    """The sound of these notes, each as a plucked tone, and a short silence at its end.

    Shapes: a list of Note within ``steps`` eighth notes -> (samples,) float array, ``RATE``
    samples a second; in [-1, 1] where one note sounds at a time.
    Raises: ValueError for a note that no MIDI file can hold or that lies outside the steps.
    """
    _check_notes(notes, steps)
    sound = np.zeros(round((steps + 1) * EIGHTH * RATE))
    for note in notes:
        time = np.arange(round(note.length * EIGHTH * RATE)) / RATE
        frequency = 440 * 2 ** ((note.pitch - 69) / 12)  # A4 is number 69
        tone = sum(np.sin(2 * np.pi * part * frequency * time) / part**2 for part in (1, 2, 3))
        fades = np.minimum(1, np.minimum(time, time[-1] - time) / 0.01)  # else it clicks
        start = round(note.start * EIGHTH * RATE)
        sound[start : start + len(time)] += 0.6 * tone * fades * np.exp(-2 * time)
    return sound


def wav_bytes(sound):
    """A WAV file, one channel of 16 bits: (samples,) in [-1, 1] -> bytes.

    Raises: ValueError for values outside [-1, 1].
    """
    if len(sound) and np.abs(sound).max() > 1:
        raise ValueError(f"the sound reaches {np.abs(sound).max():.3g}: scale it to [-1, 1]")
    file = io.BytesIO()
    with wave.open(file, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(RATE)
        wav.writeframes(np.round(32767 * sound).astype("<i2").tobytes())
    return file.getvalue()


def show_players(sounds):
    """Displays a player for each entry of ``{label: sound}``, with the sound inside the page.

    Shapes: each entry (samples,).
    """
    players = []
    for label, sound in sounds.items():
        name, data = html.escape(label), b64encode(wav_bytes(sound)).decode()
        players.append(
            f'<div style="background: white; color: black; padding: 0.4em">{name}'
            f'<br><audio controls aria-label="{name}" '
            f'src="data:audio/wav;base64,{data}"></audio></div>'
        )
    text = "\n".join(f"[sound] {label}" for label in sounds)
    display({"text/html": "\n".join(players), "text/plain": text}, raw=True)


def midi_bytes(notes, steps):
    """A Standard MIDI File, format 0, that other programs open; it lasts ``steps`` eighth notes.

    Shapes: a list of Note within the steps -> bytes.
    Raises: ValueError for a note that no MIDI file can hold or that lies outside the steps.
    Source: Standard MIDI Files 1.0 (RP-001), MIDI Manufacturers Association; chapter "music".
    """
    _check_notes(notes, steps)
    events = []
    for note in notes:
        events.append((note.start, bytes([0x90, note.pitch, 80])))  # on, this hard
        events.append((note.start + note.length, bytes([0x80, note.pitch, 0])))  # off
    tempo = round(2 * EIGHTH * 1e6).to_bytes(3, "big")  # microseconds in a quarter note
    track = b"\x00\xff\x51\x03" + tempo
    now = 0
    for step, message in sorted(events):  # at one moment, off before on
        track += _variable_length((step - now) * TICKS) + message
        now = step
    track += _variable_length((steps - now) * TICKS) + b"\xff\x2f\x00"  # end of track
    header = struct.pack(">4sIHHH", b"MThd", 6, 0, 1, 2 * TICKS)
    return header + struct.pack(">4sI", b"MTrk", len(track)) + track


def _variable_length(number):
    """A number in groups of 7 bits, the high bit set in all bytes but the last."""
    groups = [number & 0x7F]
    while number := number >> 7:
        groups.append(number & 0x7F | 0x80)
    return bytes(reversed(groups))


def _check_notes(notes, steps):
    for note in notes:
        inside = 0 <= note.start < note.start + note.length <= steps
        if not (inside and 0 <= note.pitch < 128):
            raise ValueError(
                f"{note} does not fit: pitches run from 0 to 127, and a note lasts at least one "
                f"step and lies within the {steps} there are"
            )
