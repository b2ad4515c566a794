"""Scores whose values are known beforehand, and folders as they should not be."""

import math

import pytest
import torch
from conftest import make_picture
from PIL import Image
from torch import nn
from torch.nn import functional as F

from b2v.data.footage import Sample, Window, find_windows, read_samples
from b2v.errors import DatasetError, MediaError, ShapeError, WeightsError
from b2v.evaluate import evaluate, records, restore_middle, score, ssim, summarize
from b2v.inference.runtime import Runtime
from b2v.media.images import read_photo, write_photo
from b2v.metrics import psnr, reblur
from b2v.report import Extremes

FP32 = Runtime(torch.device("cpu"), "fp32")


def moving(count=7, height=24, width=32):
    """Sharp frames [7, 3, H, W] of a picture that moves by a pixel a frame."""
    wide = make_picture(height, width + count)
    frames = torch.stack([wide[:, :, i : i + width] for i in range(count)])
    return (frames * 255).round() / 255


def write_window(root, sharp, blurry, *, sequence="walk", center=4, suffix=".png"):
    """Write one window in GOPRO_7 layout."""
    for folder in ("sharp", "blur"):
        (root / folder / sequence).mkdir(parents=True, exist_ok=True)
    for i, frame in enumerate(sharp):
        write_photo(frame, root / "sharp" / sequence / f"{center - 3 + i:06d}{suffix}")
    write_photo(blurry, root / "blur" / sequence / f"{center:06d}{suffix}")
    return root


class Answer:
    """Stands for a cascade that knows the seven frames."""

    multiple, tiling = 4, None
    order_known = False

    def __init__(self, frames):
        self.frames = frames

    def __call__(self, blurry, frames=7):
        return self.frames[None]


def score_of(restored, sharp, blurry=None):
    return score("x", reblur(sharp) if blurry is None else blurry, restored, sharp)


def test_doing_nothing_has_the_known_value_of_an_offset():
    sharp = moving() * 0.5
    blurry = sharp[3] + 0.1
    assert score_of(sharp, sharp, blurry).nothing[3] == pytest.approx(20.0, abs=1e-3)


def test_doing_nothing_and_being_the_blurry_picture_score_the_same():
    sharp = moving()
    blurry = reblur(sharp)
    result = score("x", blurry, blurry.expand(7, -1, -1, -1), sharp)
    assert torch.equal(result.psnr, result.nothing)
    assert result.motion == 0


def test_the_truth_scores_the_most_and_can_be_averaged():
    result = score_of(moving(), moving())
    assert result.psnr.tolist() == result.psnr_p.tolist() == [100.0] * 7
    assert result.ssim_middle == pytest.approx(1)
    assert result.motion == pytest.approx(1)
    assert result.reblur == 100
    assert math.isfinite(summarize([result, result], "A", "b2v")["psnr"][0])


def test_p_takes_the_better_order_of_time_for_the_whole_sequence():
    sharp = moving()
    backwards = score_of(sharp.flip(0), sharp)
    assert backwards.psnr_p.tolist() == [100.0] * 7
    assert backwards.psnr[0] < 25
    assert backwards.psnr[3] == 100
    mixed = sharp.clone()
    mixed[[0, 6]] = mixed[[6, 0]]  # two of seven swapped: the order as given is the better one
    result = score_of(mixed, sharp)
    assert torch.equal(result.psnr_p, result.psnr)
    assert result.psnr_p[0] < 25


def test_motion_is_measured_against_the_true_one():
    sharp = moving()
    half = sharp.mean(0) + 0.5 * (sharp - sharp.mean(0))
    assert score_of(half, sharp).motion == pytest.approx(0.5, abs=1e-4)


def test_reblur_asks_whether_the_frames_explain_the_photo():
    sharp = moving()
    blurry = (reblur(sharp) - 0.05).clamp(0, 1)
    assert score_of(sharp, sharp, blurry).reblur == pytest.approx(
        float(psnr(reblur(sharp), blurry))
    )


def test_ssim_of_two_pictures_is_that_of_its_formula():
    """Written out from Wang et al. 2004: Gaussian window of 11 x 11, sigma 1.5."""
    a, b = make_picture(32, 40, 1), make_picture(32, 40, 2)
    line = torch.exp(-((torch.arange(11.0) - 5) ** 2) / (2 * 1.5**2))
    window = (line[:, None] * line / line.sum() ** 2).expand(3, 1, 11, 11)

    def mean(x):
        return F.conv2d(x[None], window, groups=3)

    ma, mb = mean(a), mean(b)
    va, vb, vab = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    index = (2 * ma * mb + c1) * (2 * vab + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
    assert ssim(a, b) == pytest.approx(float(index.mean()), abs=2e-4)


def test_a_set_is_the_mean_over_its_samples():
    sharp = moving() * 0.5
    scores = [score_of(sharp + offset, sharp) for offset in (0.1, 0.01)]
    summary = summarize(scores, "A", "b2v")
    assert (summary["set"], summary["model"], summary["samples"]) == ("A", "b2v", 2)
    assert summary["psnr"] == pytest.approx([30.0] * 7, abs=1e-2)
    assert summary["mean_p"] == pytest.approx(30.0, abs=1e-2)
    assert summary["middle"] == summary["psnr"][3]
    assert summary["nothing"]["mean"] == pytest.approx(sum(summary["nothing"]["psnr"]) / 7)
    assert summary["nothing"]["middle"] == summary["nothing"]["psnr"][3]


def test_windows_are_found_in_the_folder_and_in_its_splits(tmp_path):
    for root in (tmp_path / "plain", tmp_path / "split" / "test"):
        write_window(root, moving(), moving()[3], sequence="a")
        write_window(root, moving(), moving()[3], sequence="b", center=11)
    plain, split = find_windows(tmp_path / "plain"), find_windows(tmp_path / "split")
    assert [w.name for w in plain] == ["blur/a/000004", "blur/b/000011"]
    assert [w.name for w in split] == ["test/blur/a/000004", "test/blur/b/000011"]
    assert [path.name for path in plain[1].sharp] == [f"{n:06d}.png" for n in range(8, 15)]
    assert all(path.parent.name == "b" for path in plain[1].sharp)


def test_sharp_frames_may_be_jpeg_and_hidden_files_are_left_alone(tmp_path):
    sharp = moving()
    write_window(tmp_path, sharp, sharp[3], suffix=".jpg")
    (tmp_path / "blur" / "walk" / "._000004.jpg").write_bytes(b"left by a desktop")
    (tmp_path / "blur" / "walk" / "notes.txt").write_text("hello")
    (window,) = find_windows(tmp_path)
    assert {path.suffix for path in window.sharp} == {".jpg"}
    stored = torch.stack([read_photo(path).pixels for path in window.sharp])
    (result,) = evaluate(Answer(stored), read_samples([window]), FP32)
    assert result.psnr.tolist() == [100.0] * 7


def test_transparent_pictures_are_laid_on_white(tmp_path):
    sharp = moving()
    write_window(tmp_path, sharp, sharp[3])
    for path in sorted(tmp_path.rglob("*.png")):
        image = Image.open(path).convert("RGBA")
        image.putalpha(0)
        image.save(path)
    (result,) = evaluate(Answer(torch.ones_like(sharp)), read_samples(find_windows(tmp_path)), FP32)
    assert result.psnr.tolist() == result.nothing.tolist() == [100.0] * 7


def test_missing_frame_is_named(tmp_path):
    write_window(tmp_path, moving(), moving()[3])
    (tmp_path / "sharp" / "walk" / "000006.png").unlink()
    with pytest.raises(DatasetError, match=r"sharp.walk.000006\.png: missing"):
        find_windows(tmp_path)


def test_blurry_picture_without_a_number_is_named(tmp_path):
    write_window(tmp_path, moving(), moving()[3])
    write_photo(moving()[3], tmp_path / "blur" / "walk" / "best.png")
    with pytest.raises(DatasetError, match=r"best\.png: not named by the number"):
        find_windows(tmp_path)


@pytest.mark.parametrize("folder", ["nowhere", "."])
def test_folder_of_another_layout_is_refused(tmp_path, folder):
    (tmp_path / "photos").mkdir()
    write_photo(make_picture(16, 16), tmp_path / "photos" / "000001.png")
    with pytest.raises(DatasetError, match="no windows found"):
        find_windows(tmp_path / folder)


def test_pictures_of_several_sizes_are_refused(tmp_path):
    write_window(tmp_path, moving(), moving()[3])
    write_photo(make_picture(24, 31), tmp_path / "sharp/walk/000002.png", overwrite=True)
    with pytest.raises(DatasetError, match=r"000002\.png: is not of the same size"):
        next(read_samples(find_windows(tmp_path)))


def test_damaged_and_tiny_pictures_are_refused(tmp_path):
    write_window(tmp_path, moving(), moving()[3])
    damaged = tmp_path / "sharp" / "walk" / "000002.png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    with pytest.raises(MediaError, match=r"000002\.png"):
        next(read_samples(find_windows(tmp_path)))
    write_photo(make_picture(16, 16)[:, :9, :9], tmp_path / "tiny.png")
    window = Window("x", tmp_path / "tiny.png", (tmp_path / "tiny.png",) * 7)
    with pytest.raises(ShapeError, match="9x9"):
        next(evaluate(Answer(moving()), read_samples([window]), FP32))


def test_a_middle_net_is_scored_on_the_middle_frame_alone():
    sharp = moving()
    blurry = reblur(sharp)
    samples = [Sample("x", blurry, sharp), Sample("y", blurry, sharp[3:4])]
    truth = nn.Identity()
    truth.multiple = 4
    results = list(evaluate(truth, samples, FP32, middle_net=True))
    for result in results:
        assert result.psnr.tolist() == result.nothing.tolist()
        assert result.psnr == pytest.approx(float(psnr(blurry, sharp[3])), abs=1e-5)
        assert result.ssim_middle == result.nothing_ssim == pytest.approx(ssim(blurry, sharp[3]))
        assert (result.reblur, result.motion, result.gain) == (None, None, 0)
    said = summarize(results, "A", "middle")
    about = {"set", "samples", "model"}
    assert set(said) == about | {"middle", "shifted_middle", "ssim_middle", "nothing"}
    assert said["middle"] == said["nothing"]["middle"] == pytest.approx(float(results[0].psnr[0]))
    assert list(records(results, "A", "middle")[1])[3:6] == ["psnr_4", "p_4", "nothing_4"]


def test_a_model_is_scored_on_the_middle_frame_where_no_other_is_known():
    sharp = moving()
    sample = Sample("x", reblur(sharp), sharp[3:4])
    (result,) = evaluate(Answer(sharp), [sample], FP32)
    assert result.psnr.tolist() == [100.0]


def test_a_middle_net_sees_whole_pictures_of_any_size():
    """Sides of 21 x 30 are padded to multiples of 4 and cropped back."""
    seen = []

    class Spy(nn.Module):
        multiple = 4

        def forward(self, x):
            seen.append(tuple(x.shape))
            return x + 1

    restored = restore_middle(Spy(), make_picture(21, 30), FP32)
    assert (restored.shape, seen) == ((1, 3, 21, 30), [(1, 3, 24, 32)])
    assert restored.min() == restored.max() == 1  # clamped


def test_a_net_that_is_not_finite_is_refused():
    class Broken(nn.Identity):
        multiple = 1

        def forward(self, x):
            return x / 0 - x / 0

    with pytest.raises(WeightsError, match="not finite"):
        restore_middle(Broken(), make_picture(16, 16), FP32)


def test_a_perceptual_distance_is_reported_where_there_is_one():
    sharp = moving()
    blurry = reblur(sharp)
    result = score("x", blurry, sharp, sharp, lambda a, b: float((a - b).abs().max()))
    assert result.lpips_middle == 0
    assert result.nothing_lpips == pytest.approx(float((blurry - sharp[3]).abs().max()))
    said = summarize([result], "A", "b2v")
    assert said["lpips_middle"] == 0
    assert said["nothing"]["lpips_middle"] == result.nothing_lpips


def test_a_line_of_the_table_holds_every_score_of_a_sample():
    sharp = moving() * 0.5
    result = score_of(sharp + 0.1, sharp, sharp[3] + 0.01)
    (line,) = records([result], "A", "b2v")
    assert list(line)[:4] == ["set", "model", "sample", "psnr_1"]
    assert [line[f"psnr_{k}"] for k in range(1, 8)] == result.psnr.tolist()
    assert [line[f"p_{k}"] for k in range(1, 8)] == result.psnr_p.tolist()
    assert line["nothing_4"] == pytest.approx(40, abs=1e-2)
    assert line["ssim_middle"] == result.ssim_middle
    assert result.gain == pytest.approx(float(result.psnr.mean() - result.nothing.mean()))


def test_pictures_of_the_best_and_the_worst_are_kept():
    sharp = moving()
    samples = [Sample(f"{n}", (reblur(sharp) * k).clamp(0, 1), sharp) for n, k in enumerate((1, 0))]
    strips = Extremes(1)
    results = list(evaluate(Answer(sharp), samples, FP32, strips=strips))
    assert results[1].gain > results[0].gain  # the darker one is the further from the truth
    assert [name for _, name, _ in strips._kept] == ["1", "0"]
    assert strips._kept[0][2].shape == (3, 2 * (8 + 24 + 24) + 8, 4 * (8 + 96) + 8)
