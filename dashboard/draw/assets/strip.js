// Thumbnails as buttons: one is pressed, or several.
export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const strip = parentElement.querySelector(".strip");
  strip.setAttribute("aria-label", data.several ? "Images, several can be chosen" : "Images, one can be chosen");
  while (strip.children.length > data.items.length) strip.lastChild.remove();
  while (strip.children.length < data.items.length) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(document.createElement("img"));
    strip.append(button);
  }
  [...strip.children].forEach((button, i) => {
    const item = data.items[i], image = button.firstChild;
    if (image.getAttribute("src") !== item.src) image.src = item.src;
    image.alt = item.alt;
    button.title = item.title;
    button.dataset.id = item.id;
    button.setAttribute("aria-pressed", String(data.chosen.includes(item.id)));
    button.onclick = () => setTriggerValue("picked", item.id);
  });
}
