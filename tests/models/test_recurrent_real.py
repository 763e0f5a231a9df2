"""Published LSTMs through our layers, on real speech, against PyTorch's cells with the same weights."""

import jax
import numpy as np
import pytest
from libraries import library
from safetensors.numpy import load_file
from scipy.signal import resample_poly

from jaxdl.models.recurrent import Recurrent, hidden_of

RATE = 16000


def layer_of(weights, prefix, end=""):
    """Our variables of a layer that PyTorch stored."""
    parts = {
        part: {
            "kernel": weights[f"{prefix}weight_{letters}{end}"].T,
            "bias": weights[f"{prefix}bias_{letters}{end}"],
        }
        for part, letters in (("input", "ih"), ("state", "hh"))
    }
    return {"params": {"forwards": parts}}


def recordings(real_data):
    """Spoken digits at 16 kHz by speaker, from -1 to 1."""
    with np.load(real_data / "fsdd_speech.npz") as held:
        samples, offsets, speaker = held["samples"], held["offsets"], held["speaker"]
    rows = {one: np.flatnonzero(speaker == one) for one in range(6)}
    return lambda one, index: np.float32(
        resample_poly(samples[offsets[rows[one][index]] : offsets[rows[one][index] + 1]] / 2**15, 2, 1)
    )


def bands(samples):
    """Energies in 40 mel bands (Slaney's scale and areas), windows of 25 ms every 10 ms: ``[frames, 40]``."""
    samples = samples * 10 ** (-30 / 20) / np.sqrt(np.mean(samples**2))
    padded = np.pad(samples, 200)
    starts = np.arange(0, len(padded) - 400 + 1, 160)
    power = np.abs(np.fft.rfft(padded[starts[:, None] + np.arange(400)] * np.hanning(401)[:-1])) ** 2
    # linear up to 1 kHz (15 mels of 200/3 Hz), then 27 mels for a factor of 6.4
    mels = np.linspace(0, 15 + 27 * np.log(8) / np.log(6.4), 42)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp((mels - 15) * np.log(6.4) / 27))
    low, middle, high = (edges[i : i + 40, None] for i in range(3))
    hertz = np.arange(201) * RATE / 400
    triangles = np.maximum(0, np.minimum((hertz - low) / (middle - low), (high - hertz) / (high - middle)))
    return np.float32(power @ (triangles * 2 / (high - low)).T)


@pytest.mark.slow
def test_a_published_speaker_encoder_is_that_of_torch_and_knows_speakers(real_data):
    """Resemblyzer's: three layers, the last state, a linear map, ReLU, unit length."""
    torch = library("torch")
    weights = load_file(real_data / "weights" / "resemblyzer_speaker_lstm.safetensors")
    recording = recordings(real_data)
    spoken = [
        bands(np.concatenate([recording(one, 100 * turn + i) for i in range(0, 100, 20)]))
        for one in range(6)
        for turn in range(5)
    ]
    # as published, pieces of 1.6 s by themselves; the last of a recording is shorter
    pieces = [frames[i : i + 160] for frames in spoken for i in range(0, len(frames) - 80, 160)]
    of = np.repeat(np.arange(len(spoken)), [len(range(0, len(frames) - 80, 160)) for frames in spoken])
    lengths = np.array([len(piece) for piece in pieces])
    x = np.stack([np.pad(piece, ((0, 160 - len(piece)), (0, 0))) for piece in pieces])
    layers = [layer_of(weights, "lstm.", f"_l{i}") for i in range(3)]

    @jax.jit
    def ours(x, real):
        hidden = x
        for variables in layers:
            hidden, last = Recurrent(256).apply(variables, hidden, real)
        raw = jax.nn.relu(hidden_of(last) @ weights["linear.weight"].T + weights["linear.bias"])
        return raw / jax.numpy.linalg.norm(raw, axis=1, keepdims=True)

    found = np.asarray(ours(x, np.arange(160) < lengths[:, None]))

    theirs = torch.nn.LSTM(40, 256, 3, batch_first=True)
    theirs.load_state_dict({name[5:]: torch.tensor(one) for name, one in weights.items() if name.startswith("lstm.")})
    with torch.no_grad():
        hidden = [theirs(torch.tensor(piece)[None])[1][0][-1] for piece in pieces]
        raw = torch.relu(
            torch.cat(hidden) @ torch.tensor(weights["linear.weight"]).T + torch.tensor(weights["linear.bias"])
        )
        expected = (raw / raw.norm(dim=1, keepdim=True)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert expected.std(0).max() > 0.05

    means = np.stack([found[of == place].mean(0) for place in range(len(spoken))])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    alike, speaker = means @ means.T - 2 * np.eye(len(means)), np.repeat(np.arange(6), 5)
    assert (speaker[alike.argmax(1)] == speaker).mean() > 0.9  # by chance 0.14


@pytest.mark.slow
def test_a_published_detector_of_speech_is_that_of_torch_and_hears_it(real_data):
    """Silero's for 16 kHz: each 32 ms become 128 numbers by convolutions, which an LSTM reads one after another."""
    torch = library("torch")
    held = load_file(real_data / "weights" / "silero_vad_16k.safetensors")
    weights = {name: torch.tensor(one) for name, one in held.items()}
    recording, silence = recordings(real_data), np.zeros(RATE, np.float32)
    parts = [silence, *[recording(0, i) for i in (0, 100, 200)], silence, *[recording(3, i) for i in (0, 100, 200)]]
    samples = np.concatenate([0.5 * part / max(np.abs(part).max(), 0.5) for part in parts])
    spoken = np.concatenate([np.full(len(part), bool(part.any())) for part in parts])
    count = len(samples) // 512
    samples = np.pad(samples, (64, 0))
    pieces = np.stack(
        [samples[512 * i : 512 * i + 576] for i in range(count)]
    )  # each with the last 64 of the one before
    with torch.no_grad():
        x = torch.nn.functional.pad(torch.tensor(pieces)[:, None], (0, 64), "reflect")
        x = torch.nn.functional.conv1d(x, weights["stft_conv.weight"], stride=128)
        x = torch.sqrt(x[:, :129] ** 2 + x[:, 129:] ** 2)
        for place, stride in enumerate((1, 2, 2, 1), 1):
            kernel, bias = weights[f"conv{place}.weight"], weights[f"conv{place}.bias"]
            x = torch.relu(torch.nn.functional.conv1d(x, kernel, bias, stride, padding=1))
        x = x[..., 0]
        cell = torch.nn.LSTMCell(128, 128)
        cell.load_state_dict({name[10:]: one for name, one in weights.items() if name.startswith("lstm_cell.")})
        state, states = None, []
        for piece in x:
            state = cell(piece[None], state)
            states.append(state[0])
        expected = torch.cat(states).numpy()
    variables = layer_of(held, "lstm_cell.")
    run = jax.jit(lambda x, initial: Recurrent(128).apply(variables, x, None, initial))
    first, last = run(x.numpy()[None, : count // 2], None)
    second, _ = run(x.numpy()[None, count // 2 :], last)  # as it is heard live
    found = np.concatenate([first, second], 1)[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    logits = np.maximum(found, 0) @ held["final_conv.weight"][0, :, 0] + held["final_conv.bias"]
    share = np.array([spoken[512 * i : 512 * i + 512].mean() for i in range(count)])
    assert (logits[share == 1] > 0).mean() > 0.9
    assert (logits[share == 0] > 0).mean() < 0.2
