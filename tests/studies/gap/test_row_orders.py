"""Row orders: listings are what they say, and reordering flags gives what chance gives."""

from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from small_data import write_competition, write_mvtec

from ad.dataset import of_split
from ad.metrics import f1_score
from studies.gap import listings, row_orders, unpacking
from studies.gap.mechanism import effect_rows
from studies.gap.row_orders import COMPUTED, LISTED, RowOrders
from tools.scan import scan

LABELS, FLAGS = (np.arange(100) < 40).astype(int), np.arange(100) < 42


@pytest.mark.parametrize(
    ("name", "expected"),
    [  # by debugfs of e2fsprogs 1.47: dx_hash -h half_md4 -s <seed> <name>
        ("TEST_000.png", 0x2270BD12_8E5B96C6),
        ("TEST_001.png", 0x8C89372A_6E52D01E),
        ("TEST_099.png", 0x0C16F76C_01F8EF83),
        ("a", 0x35DC0CC4_3F1DACEF),
    ],
)
def test_ext4_hashes_by_its_own_tool(name, expected):
    seed = UUID("01234567-89ab-cdef-0123-456789abcdef")
    words = np.array([np.frombuffer(seed.bytes, dtype="<u4")])
    assert int(listings.half_md4(name, words)[0]) == expected


def test_ext4_hashes_long_names_and_many_seeds_at_once():
    usual = np.array([[0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476]], dtype=np.uint32)
    name = "averyveryverylongname_more_than_thirty_two_bytes.png"
    assert int(listings.half_md4(name, usual)[0]) == 0xF9FD715E_F5A86967
    seeds = [UUID(int=number) for number in (1, 2, 3)]
    together = listings.ext4_orders(["a", "b", "c", "d"], seeds)
    alone = [listings.ext4_orders(["a", "b", "c", "d"], [seed])[0] for seed in seeds]
    assert np.array_equal(together, alone)


def test_orders_of_names():
    assert listings.natural_order(["a10", "a9", "a2"]) == ["a2", "a9", "a10"]
    assert listings.hash_order(["a", "b", "c"]) == listings.hash_order(["c", "a", "b"])


def test_computed_orders_hold_each_image_once_and_a_doubled_file_shifts_the_rest():
    for kind in row_orders.computed_orders(12, draws=5, seed=0):
        assert kind.how == COMPUTED
        for order in kind.orders:
            if "doubled" in kind.name:
                assert len(set(order.tolist())) < 12 or order.tolist() == list(range(12))
                assert (np.diff(order) >= 0).all()
            else:
                assert sorted(order) == list(range(12)), kind.name
    assert row_orders._doubled(5, [1]) == [0, 1, 1, 2, 3]
    unpadded = next(k for k in row_orders.computed_orders(12, draws=1, seed=0) if "text" in k.name)
    assert unpadded.orders[0].tolist() == [0, 1, 10, 11, *range(2, 10)]


def test_this_machine_s_listings_are_orders_of_the_same_names(tmp_path):
    names = row_orders.flat_names(9)
    assert sorted(unpacking.listed_after_unpacking(tmp_path, names)) == names
    assert sorted(tmp_path.iterdir()) == []
    over = unpacking.overlay_listings(tmp_path, [names, names[::-1]])
    assert over is None or [sorted(each) for each in over] == [names, names]
    assert sorted(tmp_path.iterdir()) == []
    kinds = row_orders.machine_orders(9, seed=0)
    assert kinds
    for kind in kinds:
        assert kind.how == LISTED
        assert len(kind.orders) == row_orders.NAME_SETS
        assert all(sorted(order) == list(range(9)) for order in kind.orders)


def test_without_an_overlay_the_rest_is_listed(monkeypatch, tmp_path):
    monkeypatch.setattr(unpacking.shutil, "which", lambda _name: None)
    assert unpacking.overlay_listings(tmp_path, [["a"]]) is None


def test_the_data_s_own_folder_is_listed_where_it_is_flat(tmp_path):
    write_competition(tmp_path / "flat", n_train=2, n_test=6, size=32)
    write_mvtec(tmp_path / "deep", n_train=2, n_normal=2, n_anomalous=2, size=32)
    found = []
    for name in ("flat", "deep"):
        paths = [record.path for record in of_split(scan(tmp_path / name), "test")]
        found.append(row_orders.own_folder(tmp_path / name, paths))
    (flat,), deep = found
    assert sorted(flat.orders[0]) == list(range(6))
    assert deep == []


def test_enacted_rows_by_hand():
    labels, flags = np.array([1, 1, 0, 0]), np.array([True, False, True, False])
    kept = row_orders.enact(flags, np.array([[0, 1, 2, 3]]), draws=20, seed=0)
    assert (kept == flags).all()
    moved = row_orders.enact(flags, np.array([[3, 2, 1, 0]]), draws=20, seed=0)
    assert (moved.sum(axis=1) == 2).all()
    values = row_orders.f1_of_draws(labels, moved)
    assert values.tolist() == pytest.approx([f1_score(labels, row) for row in moved])
    parts = row_orders.f1_of_parts(labels, moved, seed=0)
    assert ((parts >= 0) & (parts <= 1)).all()
    assert row_orders.chance_f1(labels, flags) == pytest.approx(2 * 1 / 4)


@pytest.mark.parametrize("name", ["ext4", "shuffles", "reversed", "numbers not padded"])
def test_orders_that_move_all_rows_are_centred_on_chance(name):
    kinds = row_orders.computed_orders(100, draws=400, seed=0)
    kind = next(kind for kind in kinds if name in kind.name)
    effect = row_orders.order_effect(kind, FLAGS, LABELS, draws=400, seed=0)
    far = 0.08 if "padded" in name else 0.02  # some rows stay: numbers below ten, and runs
    assert abs(effect.f1[0] - row_orders.chance_f1(LABELS, FLAGS)) < far
    assert effect.f1[1] < effect.f1[0] < effect.f1[2]
    assert effect.part[0] < effect.f1[1]
    assert effect.part[1] > effect.f1[2]


def test_without_labels_rows_are_counted():
    kind = RowOrders("x", COMPUTED, np.array([[1, 0, 2]]))
    flags = np.array([True, False, False])
    effect = row_orders.order_effect(kind, flags, None, draws=30, seed=0)
    assert (effect.moved, effect.f1, effect.part) == (2, None, None)
    (row,) = effect_rows([effect])
    assert row["mean F1"] is None


def test_the_module_for_other_file_systems_imports_nothing_heavy():
    text = Path(unpacking.__file__).read_text(encoding="utf-8")
    assert "numpy" not in text
    assert "import ad" not in text
    assert "from ad" not in text
