// Moves the keyboard's focus to the control that comes next, once for each act that took the focused one away.
let last = null;
export default function ({ data }) {
  if (data.act === last) return;
  last = data.act;
  const find = (tries) => {
    const found = document.querySelector(`.st-key-${data.key} :is(button, input)`);
    if (found) found.focus({ preventScroll: true });
    else if (tries) setTimeout(() => find(tries - 1), 50);
  };
  if (data.key) setTimeout(() => find(20), 50);
}
