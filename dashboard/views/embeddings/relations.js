// Images among each other under several models: squares of similarities, or maps of points. The pointer is linked over
// all models in the browser, without a rerun; a click, a tap or Enter commits one image.
const FIGURE = `<figcaption><span class="name"></span><span class="note"></span></figcaption>
<div class="view"><canvas class="pixels"></canvas><canvas class="over" tabindex="0" role="application"></canvas>
<div class="message"></div></div>`;

function decode(text) {
  const letters = atob(text), bytes = new Uint8Array(letters.length);
  for (let k = 0; k < bytes.length; k++) bytes[k] = letters.charCodeAt(k);
  return bytes;
}

// Where a thumbnail lies in the sheet: [left, top] in its pixels.
const spot = (data, i) => [(i % data.sheet.columns) * data.sheet.side, Math.floor(i / data.sheet.columns) * data.sheet.side];

function square(canvas, panel, data, ramp) {
  const n = data.order.length, bytes = panel.bytes;
  canvas.width = canvas.height = n;
  const picture = new ImageData(n, n), pixels = new Uint32Array(picture.data.buffer);
  for (let k = 0; k < n * n; k++) pixels[k] = ramp[bytes[k]];
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

// Where a thumbnail of a map begins along one direction, of the panel's side; thumbnail and selection stay inside.
const AROUND = 0.2;
const corner = (panel, t) => t * (1 - (1 + 2 * AROUND) * panel.size) + AROUND * panel.size;

function scatter(canvas, panel, data, sheet) {
  const box = canvas.parentElement.getBoundingClientRect(), zoom = window.devicePixelRatio || 1;
  const side = Math.max(Math.round(box.width * zoom), 100);
  canvas.width = canvas.height = side;
  const size = Math.max(side * Math.min(0.075, 0.9 / Math.sqrt(data.order.length)), 8), pen = canvas.getContext("2d");
  panel.size = size / side;
  panel.points.forEach(([x, y], i) => {
    const [left, top] = spot(data, i);
    const cx = corner(panel, x) * side, cy = corner(panel, y) * side;
    pen.drawImage(sheet, left, top, data.sheet.side, data.sheet.side, cx, cy, size, size);
    if (data.colours[i]) { pen.strokeStyle = data.colours[i]; pen.lineWidth = Math.max(size * 0.09, 1.5); pen.strokeRect(cx, cy, size, size); }
  });
}

// Colours of the 256 levels as pixels; the last level stands for "no number".
function levels(bytes) {
  const table = new Uint32Array(256), parts = new Uint8ClampedArray(table.buffer).fill(255);
  for (let v = 0; v < 255; v++) for (let c = 0; c < 3; c++) parts[4 * v + c] = bytes[3 * v + c];
  parts.fill(128, 4 * 255, 4 * 255 + 3);
  return table;
}

// A thumbnail of the sheet, drawn: as a background its address of half a megabyte would be read again at every move.
function thumbnail(data, sheet, image) {
  const canvas = document.createElement("canvas"), [left, top] = spot(data, image), side = data.sheet.side;
  canvas.width = canvas.height = side;
  if (sheet.complete && sheet.naturalWidth) canvas.getContext("2d").drawImage(sheet, left, top, side, side, 0, 0, side, side);
  return canvas;
}

// What lies under the pointer: [image down, image across] in a square, [image] on a map.
function under(panel, data, event, canvas) {
  const box = canvas.getBoundingClientRect();
  const x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
  if (!panel.points) {
    const n = data.order.length, at = (t) => Math.min(n - 1, Math.max(0, Math.floor(t * n)));
    return [data.order[at(y)], data.order[at(x)]];
  }
  let best = -1, least = Infinity;
  panel.points.forEach(([px, py], i) => {
    const away = (corner(panel, px) + panel.size / 2 - x) ** 2 + (corner(panel, py) + panel.size / 2 - y) ** 2;
    if (away < least) { least = away; best = i; }
  });
  return least < 0.003 ? [best] : null;
}

export default function (component) {
  const { data, parentElement, setStateValue } = component;
  const $ = (name) => parentElement.querySelector(name), row = $(".row"), below = $(".below");
  const ramp = levels(decode(data.ramp)), place = new Map(data.order.map((image, at) => [image, at]));
  for (const panel of data.panels) if (typeof panel.bytes === "string") panel.bytes = decode(panel.bytes);
  while (row.children.length > data.panels.length) row.lastChild.remove();
  while (row.children.length < data.panels.length) {
    const figure = document.createElement("figure");
    figure.innerHTML = FIGURE;
    row.append(figure);
  }
  const figures = [...row.children];
  const known = parentElement.sheet?.src === data.sheet.src, sheet = known ? parentElement.sheet : new Image();
  parentElement.sheet = sheet;
  const value = (panel, i, j) => {
    const v = panel.bytes[place.get(i) * data.order.length + place.get(j)];
    return v === 255 ? "–" : ((v - 127) / 127).toFixed(2);
  };

  function mark(hovered) {
    figures.forEach((figure, k) => {
      const panel = data.panels[k], over = figure.querySelector(".over"), box = over.getBoundingClientRect();
      if (!panel.bytes && !panel.points) return;
      const zoom = window.devicePixelRatio || 1, side = Math.max(Math.round(box.width * zoom), 100), pen = over.getContext("2d");
      if (over.width !== side) over.width = over.height = side;
      pen.clearRect(0, 0, side, side);
      const outline = (image, dash, across) => {
        pen.setLineDash(dash);
        for (const [colour, width] of [["#000", 3.5 * zoom], ["#fff", 1.5 * zoom]]) {
          pen.strokeStyle = colour; pen.lineWidth = width;
          if (panel.points) {
            const around = 0.175 * panel.size * side, size = panel.size * side + 2 * around;
            pen.strokeRect(...panel.points[image].map((t) => corner(panel, t) * side - around), size, size);
          } else if (place.has(image)) {
            const at = (place.get(image) + 0.5) / data.order.length * side;
            pen.beginPath();
            if (across) { pen.moveTo(at, 0); pen.lineTo(at, side); } else { pen.moveTo(0, at); pen.lineTo(side, at); }
            pen.stroke();
          }
        }
      };
      if (data.selected !== null) outline(data.selected, [], false);
      if (hovered) hovered.forEach((image, h) => outline(image, [5 * zoom, 4 * zoom], h === 1));
    });
    tell(hovered);
  }

  function tell(hovered) {
    const pair = below.querySelector(".pair"), shown = hovered || (data.selected === null ? [] : [data.selected]);
    pair.replaceChildren(...shown.map((image) => thumbnail(data, sheet, image)));
    const text = document.createElement("div");
    const names = shown.map((image) => data.titles[image]).join(" and ");
    const numbers = shown.length === 2
      ? data.panels.filter((p) => p.bytes).map((p) => `${p.name}: ${value(p, shown[0], shown[1])}`).join(" · ") : "";
    const bold = document.createElement("b");
    bold.textContent = names || data.hint;
    text.append(bold, document.createElement("br"), numbers);
    pair.append(text);
    parentElement.querySelector(".sr").textContent = `${names} ${numbers}`;
  }

  // At most one drawing a frame, however often the pointer reports.
  let latest = null, waiting = false;
  function follow(hovered) {
    latest = hovered;
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; mark(latest); });
  }

  figures.forEach((figure, k) => {
    const panel = data.panels[k], over = figure.querySelector(".over"), ready = panel.bytes || panel.points;
    figure.style.setProperty("--colour", panel.colour);
    figure.querySelector(".name").textContent = panel.name;
    figure.querySelector(".note").textContent = panel.note;
    figure.querySelector(".message").textContent = ready ? "" : panel.message;
    over.setAttribute("aria-label", `${panel.alt}. Arrow keys move, Enter selects.`);
    over.onpointermove = (event) => ready && follow(under(panel, data, event, over));
    over.onpointerleave = () => follow(null);
    over.onclick = (event) => { const hit = ready && under(panel, data, event, over); if (hit) commit(hit[0]); };
    let cursor = [0, 0];
    over.onkeydown = (event) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      const n = data.order.length, now = () => panel.points ? [data.order[cursor[0]]] : cursor.map((at) => data.order[at]);
      if (step && ready) {
        event.preventDefault();
        if (panel.points) cursor[0] = (cursor[0] + step[0] + step[1] + n) % n;
        else cursor = cursor.map((at, d) => Math.min(n - 1, Math.max(0, at + step[d])));
        mark(now());
      } else if (ready && (event.key === "Enter" || event.key === " ")) { event.preventDefault(); commit(now()[0]); }
    };
  });
  function commit(image) { data.selected = image; mark(null); setStateValue("picked", image); }

  const draw = () => figures.forEach((figure, k) => {
    const panel = data.panels[k], canvas = figure.querySelector(".pixels");
    canvas.classList.toggle("pixels", true);
    if (panel.bytes) square(canvas, panel, data, ramp);
    else if (panel.points) scatter(canvas, panel, data, sheet);
    else canvas.width = canvas.height = 1;
  });
  const loaded = () => { draw(); mark(null); };
  sheet.onload = loaded;
  if (known && sheet.complete) loaded();
  else {
    if (data.panels.some((panel) => panel.bytes)) draw();
    if (!known) sheet.src = data.sheet.src;
  }
  const bar = below.querySelector(".bar");
  bar.hidden = !data.bar;
  if (data.bar) {
    bar.children[0].textContent = data.bar.low;
    bar.children[1].style.background = data.bar.ramp;
    bar.children[2].textContent = data.bar.high;
  }
  const near = $(".near");
  near.replaceChildren(...data.near.map((entry) => {
    const line = document.createElement("div"), items = document.createElement("div"), name = document.createElement("span");
    line.className = "line"; items.className = "items"; name.className = "note";
    line.style.setProperty("--colour", entry.colour);
    name.textContent = entry.text;
    for (const item of entry.items) {
      const button = document.createElement("button"), image = document.createElement("img");
      button.type = "button"; button.title = item.title; button.classList.toggle("same", item.same);
      image.src = item.src; image.alt = item.title;
      button.append(image, item.text);
      button.onclick = () => commit(item.image);
      items.append(button);
    }
    line.append(name, items);
    return line;
  }));
}
