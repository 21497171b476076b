"""The page on examples: whole, inert, and safe with what comes from outside; and the PNG in it."""

import html
import io
import re
import struct
import zlib

import numpy as np
import pytest

from whence.report.gallery import Card, Gallery, Ranking, render_gallery
from whence.report.png import data_uri, png

EVIL = "<img src=x onerror=alert(1)>\"'\u202e"


def card(**more):
    return Card(**{"place": "a.csv, line 2", "given": "ham", "suggested": "spam", "score": 0.5} | more)


def page(**more):
    return render_gallery(Gallery(title="t", created="2030-01-01", sentence="s", **{"kind": "texts"} | more))


def test_text_from_outside_is_text():
    evil = card(place=EVIL, given=EVIL, suggested=EVIL, text=EVIL)

    shown = page(rankings=[Ranking(question=EVIL, loss=1.0, asked=evil, helpful=[evil])], suspects=[evil], notes=[EVIL])

    assert "<img src=x" not in shown
    assert "\u202e" not in shown


def test_nothing_may_run_or_be_fetched():
    shown = page(suspects=[card(text="x")])

    assert "default-src 'none'" in html.unescape(shown)
    assert "<script" not in shown
    assert not re.search(r'(?:src|href)="(?!#|data:)', shown)


def test_a_score_above_the_whole_loss_is_said_to_be_a_ranking_only():
    assert "Read these as a ranking" in page(rankings=[Ranking(question="q", loss=0.1, helpful=[card(score=3.0)])])
    assert "Read these as a ranking" not in page(rankings=[Ranking(question="q", loss=0.1, helpful=[card(score=0.01)])])


def test_a_row_has_a_cell_for_each_column():
    with pytest.raises(ValueError, match="2 cells for 1 columns"):
        page(kind="table", columns=["a"], suspects=[card(cells=["1", "2"])])


def test_given_and_suggested_stand_side_by_side():
    shown = page(suspects=[card(text="hello", p_given=0.02, p_suggested=0.97)])

    assert re.search(r"given</dt><dd>ham.*suggested</dt><dd>spam", shown, re.DOTALL)
    assert "97" in shown


@pytest.mark.parametrize("shape", [(5, 3), (4, 7, 3)])
def test_a_png_holds_the_pixels_that_went_in(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    raw = png(pixels)

    at, chunks = 8, {}
    while at < len(raw):
        (size,), kind = struct.unpack(">I", raw[at : at + 4]), raw[at + 4 : at + 8]
        body = raw[at + 8 : at + 8 + size]
        assert struct.unpack(">I", raw[at + 8 + size : at + 12 + size])[0] == zlib.crc32(kind + body)
        chunks[kind] = body
        at += 12 + size
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(shape[0], -1)
    assert struct.unpack(">II", chunks[b"IHDR"][:8]) == (shape[1], shape[0])
    assert (rows[:, 1:].reshape(shape) == pixels).all()


def test_pillow_reads_the_same():
    Image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 7, 3), dtype=np.uint8)

    assert (np.array(Image.open(io.BytesIO(png(pixels)))) == pixels).all()
    assert data_uri(pixels).startswith("data:image/png;base64,")


def test_pixels_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="grey is"):
        png(np.zeros((2, 2, 4), np.uint8))
