"""What the page says about itself."""

HOW = """
The original and, beside it, the same frames with what each model attends to. Yellow: much attention; where there is
little, the grey film is seen.

- **One scale holds for the whole film**, so that nothing flickers that the model did not change. *Each frame* gives
  every frame a scale of its own.
- **Stable** says how much of the map stays from one frame to the next: 1 is a map that does not change. A model that
  follows a moving object changes its map, so the samples also say how stable the map is **on the object**, whose way is
  known, and how well the mass mask fits it (**IoU**).
- *Cut-out* and *mass mask* show the fewest patches that hold most of the attention.
- Patch colours are fitted once on frames from the whole clip and then hold for all of it.
"""
FORMULA = r"""
$$r = \frac1{T-1}\sum_{t=2}^{T} \operatorname{corr}(m_{t-1}, m_t)$$

with $m_t$ the map of frame $t$ over patches: attention of the CLS token in the last layer (of the mean over patches
where there is none), rollout, or colours. On the object: the same of maps read at 16 × 16 points over the bounding box
of the object's mask, so that its way and growth do not count; its turning does. Smoothing: $s_t = \alpha s_{t-1} +
(1-\alpha) m_t$; numbers are of $m$.

Maps and mass mask: Caron et al. 2021, [arXiv:2104.14294](https://arxiv.org/abs/2104.14294). Rollout: Abnar & Zuidema
2020, [arXiv:2005.00928](https://arxiv.org/abs/2005.00928). The command line does the same: `python -m probes video`.
"""
NOT_SHOWN = """
- Models see **one frame at a time**: nothing here knows of motion, and a stable map is no proof of tracking.
- A map that never changes, whatever is filmed, is perfectly stable. Read stability together with the film and the IoU.
- Frames are cut to whole patches of all models, and position embeddings are stretched to the clip's shape; a model may
  look otherwise at its own size.
- Attention says which patches are mixed, not what decides an answer.
"""
