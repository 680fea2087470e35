// Puts the page's address on the clipboard; where the browser does not allow that, shows it to be copied by hand.
export default function (component) {
  const { data, parentElement } = component;
  const button = parentElement.querySelector(".copy"), manual = parentElement.querySelector(".manual");
  if (!button.dataset.busy) button.textContent = data.label;
  button.onclick = async () => {
    const link = new URL(window.location.href);
    for (const [name, values] of Object.entries(data.shown)) for (const value of values) link.searchParams.append(name, value);
    try {
      await navigator.clipboard.writeText(link.href);
      manual.hidden = true;
      button.dataset.busy = "1";
      button.textContent = "Copied";
      setTimeout(() => { delete button.dataset.busy; button.textContent = data.label; }, 1600);
    } catch {
      manual.hidden = false;
      manual.value = link.href;
      manual.select();
    }
  };
}
