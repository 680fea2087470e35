"""A clip that is drawn, not filmed: a procedural scene whose object moves, with its true mask in every frame."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from model_zoo.scenes import Scenes
from probes.core.video.clip import Frame, Part, VideoError

FRAMES = 72
RATE = 12.0
MOST_FRAMES = 240


@dataclass(frozen=True)
class SceneClip:
    """A held-out scene of which the object moves, turns and grows along a closed path before a still background.

    Attributes:
        scene: which one.
        part: what is taken of it.
        count: frames of one way along the path.
        side: of a frame, pixels.
    """

    scene: int
    part: Part = field(default_factory=Part)
    count: int = FRAMES
    side: int = 224
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.scene < 2**31:
            raise VideoError(f"There is no scene {self.scene}: write scene:N with N from 0.")
        if not 1 <= self.count <= MOST_FRAMES:
            raise VideoError(f"A scene's clip has 1 to {MOST_FRAMES} frames, not {self.count}.")
        if not self._places():
            raise VideoError(f"The scene's clip ends after {self.count / RATE:g} s: choose an earlier start.")

    @property
    def name(self) -> str:
        """What a person calls it."""
        return f"Scene {self.scene}"

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.side, self.side

    @property
    def expected(self) -> int:
        """How many frames there are."""
        return len(self._places())

    def frames(self) -> Iterator[Frame]:
        """The frames with their masks."""
        drawn = Scenes(size=self.side).clip(self.scene, self.count)
        pixels, masks = drawn.images.permute(0, 2, 3, 1).contiguous().numpy(), drawn.masks.numpy()
        for place in self._places():
            yield Frame(place / RATE, pixels[place], masks[place])

    def _places(self) -> list[int]:
        end = self.part.end if self.part.end is not None else float("inf")
        inside = [place for place in range(self.count) if self.part.start <= place / RATE < end]
        return inside[:: self.part.stride]
