// Panels of one image side by side: the pointer is linked over all of them in the browser, without a rerun.
// A click, a tap or Enter commits a point of the original image as fractions (u, v); Escape takes it back.
// Rows are components of their own: a row tells the others of the page where the pointer is.
const POINTED = "patch-pointed";
const FIGURE = `<figcaption><span class="name"></span><span class="note"></span></figcaption>
<div class="view"><img class="photo" draggable="false"><img class="map" alt="" draggable="false"><div class="seen"></div>
<svg class="lines" preserveAspectRatio="none" aria-hidden="true"><path class="halo"/><path class="line"/></svg>
<div class="hit" tabindex="0" role="application"><div class="cell sel"></div><div class="cell hov"></div><div class="pin sel"></div><div class="pin hov"></div></div>
<div class="message"></div></div><div class="readout"></div>
<div class="bar"><span class="low"></span><div class="ramp"></div><span class="high"></span></div>`;

const percent = (x) => `${100 * x}%`;
const put = (element, [left, top, right, bottom]) => Object.assign(element.style, {
  left: percent(left), top: percent(top), width: percent(right - left), height: percent(bottom - top) });

// The patch of a panel under a point of the image: [row, column], or null outside of what the model sees.
function patchAt(panel, [u, v]) {
  if (!panel.box || !panel.grid) return null;
  const [left, top, right, bottom] = panel.box, [rows, columns] = panel.grid;
  const x = (u - left) / (right - left), y = (v - top) / (bottom - top);
  if (x < 0 || x >= 1 || y < 0 || y >= 1) return null;
  return [Math.floor(y * rows), Math.floor(x * columns)];
}

function cellBox(panel, [row, column]) {
  const [left, top, right, bottom] = panel.box, [rows, columns] = panel.grid;
  const w = (right - left) / columns, h = (bottom - top) / rows;
  return [left + column * w, top + row * h, left + (column + 1) * w, top + (row + 1) * h];
}

export default function (component) {
  const { data, parentElement, setStateValue } = component;
  const frame = parentElement.querySelector(".frame"), row = frame.querySelector(".row");
  const spoken = frame.querySelector(".sr"), bar = frame.querySelector(".shared");
  const panels = data.panels;
  frame.classList.toggle("compact", data.compact);
  row.style.setProperty("--wide", data.wide);
  row.style.setProperty("--narrow", data.narrow);
  frame.style.setProperty("--ink", data.ink);
  row.setAttribute("role", "group");
  row.setAttribute("aria-label", data.label);
  while (row.children.length > panels.length) row.lastChild.remove();
  while (row.children.length < panels.length) {
    const figure = document.createElement("figure");
    figure.innerHTML = FIGURE;
    row.append(figure);
  }
  const figures = [...row.children];

  const text = (panel, uv) => {
    const at = patchAt(panel, uv);
    if (!at) return panel.grid ? "outside this model's crop" : "";
    const value = panel.values ? ` · ${panel.values[at[0] * panel.grid[1] + at[1]]}` : "";
    return `row ${at[0] + 1}, column ${at[1] + 1}${value}`;
  };
  const mark = (kind, uv) => figures.forEach((figure, i) => {
    const cell = figure.querySelector(".cell." + kind), at = uv && patchAt(panels[i], uv);
    cell.hidden = !at;
    if (at) put(cell, cellBox(panels[i], at));
    const pin = figure.querySelector(".pin." + kind);
    pin.hidden = !uv || Boolean(panels[i].grid);
    if (uv) Object.assign(pin.style, { left: percent(uv[0]), top: percent(uv[1]) });
  });
  const read = (uv) => {
    figures.forEach((figure, i) => { figure.querySelector(".readout").textContent = uv ? text(panels[i], uv) : ""; });
    frame.querySelectorAll(".tick").forEach((tick) => tick.remove());
    if (!uv) return;
    panels.forEach((panel, i) => {
      const at = patchAt(panel, uv), place = at && panel.places && panel.places[at[0] * panel.grid[1] + at[1]];
      if (place === null || place === undefined) return;
      const tick = document.createElement("div");
      tick.className = "tick";
      tick.style.cssText = `--colour:${panel.colour};left:calc(${100 * Math.min(1, Math.max(0, place))}% - 1.5px)`;
      (data.bar ? bar : figures[i].querySelector(".bar")).querySelector(".ramp").append(tick);
    });
  };
  const follow = ({ detail }) => { mark("hov", detail); read(detail || frame.picked); };
  const tell = (uv) => document.dispatchEvent(new CustomEvent(POINTED, { detail: uv }));
  document.removeEventListener(POINTED, frame.follow);
  document.addEventListener(POINTED, frame.follow = follow);
  const say = (uv, what) => { spoken.textContent = panels.filter((p) => p.grid).map((p) => `${p.name}: ${text(p, uv)}`).join("; ") + what; };
  const commit = (uv) => {
    frame.picked = uv;
    mark("sel", uv); read(uv); uv ? say(uv, ", selected") : (spoken.textContent = "Selection cleared");
    setStateValue("uv", uv);
  };
  frame.picked = data.uv;

  const ramp = (element, scale) => {
    element.hidden = !scale;
    if (!scale) return;
    element.querySelector(".low").textContent = scale.low;
    element.querySelector(".high").textContent = scale.high;
    element.querySelector(".ramp").style.background = scale.ramp;
  };
  ramp(bar, data.bar);

  figures.forEach((figure, i) => {
    const panel = panels[i], part = (name) => figure.querySelector("." + name);
    figure.style.setProperty("--colour", panel.colour);
    part("view").style.setProperty("--tall", percent(panel.tall));
    part("name").textContent = panel.name;           // text, never markup: names come from users
    part("name").title = panel.name;
    part("note").textContent = panel.note;
    figure.dataset.state = panel.state;
    figure.classList.toggle("waiting", panel.state === "waiting");
    const photo = part("photo"), source = panel.image || data.image;
    if (photo.getAttribute("src") !== source) photo.src = source;
    photo.alt = panel.alt;
    photo.className = "photo" + (panel.state !== "ready" ? " dim" : panel.grey ? " grey" : "");
    const map = part("map"), ready = Boolean(panel.map);
    map.hidden = !ready;
    if (ready) {
      map.src = panel.map;
      map.classList.toggle("exact", panel.exact);
      put(map, panel.box);
    }
    const seen = part("seen"), crops = panel.box && panel.box.some((edge, k) => (k < 2 ? edge > 0.002 : edge < 0.998));
    seen.hidden = !(crops && panel.state === "ready");
    if (crops) put(seen, panel.box);
    const lines = part("lines");
    lines.toggleAttribute("hidden", !panel.contour);
    if (panel.contour) {
      const [rows, columns] = panel.contour_grid || panel.grid;
      put(lines, panel.contour_box || panel.box);
      lines.setAttribute("viewBox", `0 0 ${columns} ${rows}`);
      lines.querySelectorAll("path").forEach((path) => path.setAttribute("d", panel.contour));
    }
    part("message").textContent = panel.message;
    ramp(figure.querySelector(".bar"), panel.bar);

    const hit = part("hit");
    hit.setAttribute("aria-label", `${panel.alt}. Arrow keys move, Enter selects a patch, Escape clears.`);
    const point = (event) => {
      const box = hit.getBoundingClientRect(), inside = (x) => Math.min(0.999999, Math.max(0, x));
      return [inside((event.clientX - box.left) / box.width), inside((event.clientY - box.top) / box.height)];
    };
    hit.onpointermove = (event) => { if (event.pointerType !== "touch") tell(point(event)); };
    hit.onpointerleave = () => tell(null);
    hit.onclick = (event) => commit(point(event));
    hit.onblur = () => { hit.keys = null; tell(null); };
    hit.onkeydown = (event) => {
      const move = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] }[event.key];
      const grid = panel.grid || [14, 14], box = panel.box || [0, 0, 1, 1];
      const now = hit.keys || frame.picked || [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2];
      if (move) {
        event.preventDefault();
        const steps = [(box[2] - box[0]) / grid[1], (box[3] - box[1]) / grid[0]];
        hit.keys = now.map((x, k) => Math.min(0.999999, Math.max(0, x + move[k] * steps[k])));
        tell(hit.keys); say(hit.keys, "");
      } else if (event.key === "Enter" || event.key === " ") {
        event.preventDefault(); commit(now);
      } else if (event.key === "Escape") {
        event.preventDefault(); hit.keys = null; tell(null); commit(null);
      }
    };
  });
  mark("hov", null);
  mark("sel", data.uv);
  read(data.uv);
  return () => document.removeEventListener(POINTED, follow);
}
