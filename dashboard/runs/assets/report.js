// Draws the figures of a report in the colours of the reader's scheme, on paper in those of paper.
const dark = matchMedia("(prefers-color-scheme: dark)");
const figures = [...document.querySelectorAll("script[type='application/json']")].map((data) => ({
  place: document.getElementById(data.dataset.of),
  figure: JSON.parse(data.textContent),
}));

function dressed(layout, night) {
  const [ink, line] = night ? ["#e8eaed", "#383e48"] : ["#1b1f24", "#d9dde3"];
  const found = { ...layout, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)" };
  found.font = { ...layout.font, color: ink };
  for (const name of Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key)))
    found[name] = { ...layout[name], gridcolor: line, zerolinecolor: line, linecolor: line };
  return found;
}

function draw(night) {
  for (const { place, figure } of figures)
    Plotly.react(place, figure.data, dressed(figure.layout, night), {
      responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"],
      toImageButtonOptions: { format: "svg" },
    });
}

draw(dark.matches);
dark.addEventListener("change", () => draw(dark.matches));
addEventListener("beforeprint", () => {
  for (const more of document.querySelectorAll("details")) more.open = true;
  draw(false);
});
addEventListener("afterprint", () => draw(dark.matches));
