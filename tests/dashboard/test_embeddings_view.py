"""Squares of similarities, their order, neighbours and maps, as data."""

import base64
import itertools
import json

import numpy as np
import pytest
import xarray as xr
from scipy.stats import spearmanr

from dashboard.compute.asking import ModelResult
from dashboard.compute.background import Background, Failed
from dashboard.compute.jobs import Cancelled, Job
from dashboard.controls import choices
from dashboard.images import gallery, sets
from dashboard.images.sets import ImageSet
from dashboard.state.selection import Depth
from dashboard.views.embeddings import image_relations, projection, similarity, slides, vectors
from dashboard.views.embeddings import view as embeddings
from dashboard.views.embeddings.image_relations import Near, Relation
from model_zoo.decoding import ImageError
from probes.embedding_similarity import cosine

RANDOM = np.random.default_rng(0)
GROUPS = np.repeat(np.eye(3), 5, axis=0) * 4
VECTORS = np.concatenate([GROUPS, np.zeros((15, 5))], 1) + RANDOM.normal(size=(15, 8)) * 0.3
MIXED = RANDOM.permutation(15)
CLASSES = tuple("abc"[i // 5] for i in MIXED)
SQUARE = cosine(VECTORS[MIXED])


def test_orders():
    by_class = similarity.order(SQUARE, CLASSES, "class")
    assert [CLASSES[i] for i in by_class] == sorted(CLASSES)
    clustered = [CLASSES[i] for i in similarity.order(SQUARE, (), "cluster")]
    changes = sum(a != b for a, b in itertools.pairwise(clustered))
    assert changes == 2, "the three groups stand together though no class was told"
    assert similarity.order(SQUARE, (), "given").tolist() == list(range(15))
    assert similarity.order(SQUARE, (), "class").tolist() == list(range(15))
    assert similarity.order(np.ones((1, 1)), (), "cluster").tolist() == [0]


def test_nearest_and_own_class_against_loops():
    for image in range(15):
        others = sorted((j for j in range(15) if j != image), key=lambda j: -SQUARE[image, j])
        assert similarity.nearest(SQUARE, image, 4).tolist() == others[:4]
    assert similarity.own_class(SQUARE, CLASSES) == 1
    assert np.isnan(similarity.own_class(SQUARE, ()))


def test_overlap_is_one_with_itself_and_chance_without_relation():
    assert similarity.neighbour_overlap(SQUARE, SQUARE, 4) == (1, 4 / 14, 4)
    large = [cosine(RANDOM.normal(size=(200, 20))) for _ in range(2)]
    overlap, chance, _ = similarity.neighbour_overlap(*large, 10)
    assert overlap == pytest.approx(chance, abs=0.02)
    assert np.isnan(similarity.neighbour_overlap(SQUARE[:2, :2], SQUARE[:2, :2])[0])


def test_alignment_is_the_probes_cka():
    assert similarity.alignment(VECTORS, VECTORS * 3) == pytest.approx(1)
    assert np.isnan(similarity.alignment(VECTORS[:3], VECTORS[:3]))


def test_squares_are_sent_in_order_as_bytes():
    images = [f"scene:{i}" for i in range(15)]
    order = similarity.order(SQUARE, CLASSES, "class")
    panel = Relation("a", "#0072B2", square=np.where(np.eye(15) > 0, np.nan, SQUARE))
    data = image_relations.describe(
        images, [panel], thumbnails=image_relations.sheet(images), order=order, classes=CLASSES, selected=3, near=[]
    )
    sent = np.frombuffer(base64.b64decode(data["panels"][0]["bytes"]), np.uint8).reshape(15, 15)
    assert (np.diag(sent) == 255).all()
    off = ~np.eye(15, dtype=bool)
    np.testing.assert_allclose((sent[off] - 127.0) / 127, SQUARE[np.ix_(order, order)][off], atol=1 / 254 + 1e-9)
    assert data["titles"][3].endswith(CLASSES[3])
    assert len(set(data["colours"])) == 3


def test_a_square_of_five_hundred_images_stays_under_three_megabytes():
    chosen = sets.named("scenes-500", ())
    square = cosine(RANDOM.normal(size=(500, 16)))
    panels = [Relation(name, "#0072B2", square=square) for name in "ab"]
    near = [Near("n", "#0072B2", range(1, 11), [0.5] * 10)] * 2
    more = {"order": range(500), "classes": chosen.classes, "selected": 0, "near": near}
    data = image_relations.describe(chosen.images, panels, thumbnails=image_relations.sheet(chosen.images), **more)
    size = len(json.dumps(data))
    assert size < 3_000_000, size


def test_thumbnails_of_any_images():
    small = image_relations.thumbnails(["photo:coffee", "photo:rocket"], 20)
    assert [image.size for image in small] == [(20, 20)] * 2
    scenes = image_relations.thumbnails(["scene:4"], 224)
    assert np.array_equal(np.asarray(scenes[0]), np.asarray(gallery.load("scene:4")))


def test_maps():
    placed = projection.pca(VECTORS)
    assert placed.shape == (15, 2)
    assert np.allclose(placed.mean(0), 0, atol=1e-9)
    assert projection.pca(VECTORS[:1]).tolist() == [[0, 0]]
    found = projection.tsne(VECTORS)
    assert found.shape == (15, 2)
    assert np.isfinite(found).all()
    near = np.linalg.norm(found[:, None] - found[None], axis=-1)
    groups = np.arange(15) // 5
    same = groups[:, None] == groups[None]
    assert near[same].mean() < near[~same].mean() / 2
    assert spearmanr(near[np.triu_indices(15, 1)], -cosine(VECTORS)[np.triu_indices(15, 1)]).statistic > 0.5


def test_tsne_reports_and_stops():
    class Stopped(Job):
        def report(self, stage, done=0, total=None):
            super().report(stage, done, total)
            if done == 1:
                raise Cancelled

    job = Stopped("t-SNE")
    with pytest.raises(Cancelled):
        projection.tsne(VECTORS, job)
    assert (job.stage, job.total) == ("placing the images", projection.STAGES)


def test_tsne_runs_once_in_the_background():
    job = projection.fetch(VECTORS, "me")
    assert isinstance(job, Job)
    assert job.finished.wait(60)
    assert isinstance(projection.fetch(VECTORS.copy(), "you"), np.ndarray)
    assert "at least 5" in projection.fetch(VECTORS[:3], "me")


def test_what_fails_or_is_stopped_says_so_and_can_be_asked_again():
    kept = Background(2**20)

    def fail(job):
        raise ImageError("This cannot be drawn.")

    job = kept.fetch("a", "Drawing", fail, "me")
    job.finished.wait(20)
    for _ in range(2):  # a page that is drawn again does not try again by itself
        assert kept.fetch("a", "Drawing", lambda job: 7, "me") == Failed("This cannot be drawn.")
    kept.again("me")
    again = kept.fetch("a", "Drawing", lambda job: 7, "me")
    again.finished.wait(20)
    assert kept.fetch("a", "Drawing", fail, "me") == 7


def test_what_failed_is_tried_again_for_who_did_not_wait_for_it():
    kept = Background(2**20)

    def fail(job):
        raise ImageError("This cannot be drawn.")

    kept.fetch("a", "Drawing", fail, "me").finished.wait(20)
    kept.fetch("a", "Drawing", lambda job: 7, "you").finished.wait(20)
    assert kept.fetch("a", "Drawing", fail, "you") == kept.fetch("a", "Drawing", fail, "me") == 7


def dataset(points, pool="cls"):
    layers = len(points)
    return xr.Dataset(
        {
            "similarity": (("layer", "image", "image_b"), np.stack([cosine(VECTORS + i) for i in range(layers)])),
            "embedding": (("layer", "image", "feature"), np.stack([VECTORS + i for i in range(layers)])),
        },
        coords={
            "point": ("layer", points),
            "pool_used": ("layer", ["mean"] * layers),
            "feature_count": ("layer", [8] * layers),
        },
        attrs={"pool": pool},
    )


def test_the_last_layer_is_the_final_norm_and_others_stand_at_their_depth():
    data = dataset(["resid_post.0", "resid_post.1", "resid_post.2", "norm"])
    assert vectors.layer_index(data, choices.LAST) == 3
    assert vectors.layer_index(data, Depth(3, 3)) == 3
    assert vectors.layer_index(data, Depth(2, 3)) == 1
    assert vectors.layer_index(data, Depth(6, 12)) == 1
    model = ModelResult("m", "A", "#0072B2", None, (), {"embedding-similarity": data})
    assert vectors.chosen_layer(model, Depth(1, 3)).note == "layer 1 · mean of patches (it has no CLS there)"
    assert vectors.chosen_layer(model, choices.LAST).note.startswith("after the final norm")


def test_differences_are_to_the_first_model_and_the_words_follow_from_the_numbers():
    one = vectors.ImageVectors("A", "#0072B2", "", SQUARE, VECTORS[MIXED])
    other = vectors.ImageVectors("B", "#E69F00", "", SQUARE**2, VECTORS[MIXED])
    drawn = embeddings.panels([one, other], "difference", [])
    assert [panel.name for panel in drawn] == ["B − A"]
    np.testing.assert_allclose(drawn[0].square, SQUARE**2 - SQUARE)
    chosen = ImageSet("x", tuple(f"scene:{i}" for i in range(15)), CLASSES)
    said = vectors.reading([one, other], chosen, vectors.agreement([one, other]))
    assert "100% have their nearest image in their own class" in said
    assert "n = 15 images" in said
    assert "CKA 1." in said
    alone = vectors.reading([one], ImageSet("x", ("scene:0",)), vectors.agreement([one]))
    assert alone.startswith("One image has nothing")
    same = vectors.ImageVectors("A", "#0072B2", "", np.ones((3, 3)), np.ones((3, 4)))
    identical = vectors.reading([same], ImageSet("x", ("scene:0",) * 3), vectors.agreement([same]))
    assert identical.endswith("All images are the same to every model.")


def test_neighbours_in_a_matrix_are_those_of_the_rows():
    tied = np.round(SQUARE, 1)
    for square in (SQUARE, tied, np.ones((15, 15))):
        found = similarity.members(square, 4)
        for image in range(15):
            assert set(np.flatnonzero(found[image])) == set(similarity.nearest(square, image, 4).tolist())


def test_the_same_image_many_times_is_one_point():
    for place in (projection.tsne, projection.umap):
        assert place(np.ones((8, 4))).tolist() == [[0, 0]] * 8


# Its own warnings: of tensorflow, which it can use and does not need, and of old names in what it is built on.
@pytest.mark.filterwarnings("ignore::ImportWarning", "ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")
def test_umap_keeps_groups_together_and_is_seeded():
    pytest.importorskip("umap.umap_", exc_type=ImportError)
    found = projection.umap(VECTORS)
    assert found.shape == (15, 2)
    near = np.linalg.norm(found[:, None] - found[None], axis=-1)
    groups = np.arange(15) // 5
    same = groups[:, None] == groups[None]
    assert near[same].mean() < near[~same].mean() / 2
    np.testing.assert_array_equal(projection.umap(VECTORS), found)


def test_the_saved_picture_holds_the_grids_on_one_scale_and_the_maps():
    images = [f"scene:{i}" for i in range(15)]
    order = similarity.order(SQUARE, CLASSES, "class").tolist()
    more = {
        "order": order,
        "classes": CLASSES,
        "thumbnails": image_relations.sheet(images),
        "axis": "image, by class (n = 15)",
        "scale": slides.COSINES,
        "title": "t",
        "caption": "c",
    }
    grids = [Relation(name, "#0072B2", square=SQUARE) for name in "ab"]
    text = slides.svg(grids, **more)
    assert text.count("<image") == 3  # two grids and one colour bar
    assert all(f">{kind}</text>" in text for kind in "abc")
    maps = [Relation("a", "#0072B2", points=VECTORS[:, :2])]
    assert slides.svg(maps, **more).count("<image") == 1
    placed = slides.scattered(VECTORS[:, :2], CLASSES, more["thumbnails"])
    assert placed.shape == (slides.SIDE, slides.SIDE, 3)
    assert (placed < 250).any(-1).mean() > 0.02


def test_a_grid_of_one_colour_is_explained_and_no_other():
    common = np.random.default_rng(0).normal(size=(20, 8))
    squares = {}
    for name, offset in (("MAE", 10.0), ("ViT", 0.0)):
        unit = (common + offset) / np.linalg.norm(common + offset, axis=1, keepdims=True)
        squares[name] = vectors.ImageVectors(name, "#0072B2", "", unit @ unit.T, unit)
    assert squares["MAE"].square.min() > 0.9
    assert "The grid of MAE has one colour" in embeddings.of_one_colour(list(squares.values()))
    assert embeddings.of_one_colour([squares["ViT"]]) == ""
