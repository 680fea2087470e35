// Moves the keyboard's focus to the control that comes next, once for each act that took the focused one away.
let last = null;
export default function ({ data }) {
  if (data.act === last) return;
  last = data.act;
  let first = true;
  const find = (tries) => {
    const found = document.querySelector(`.st-key-${data.key} :is(button, input)`);
    if (found && (first || document.activeElement === document.body)) {
      found.focus({ preventScroll: true });
      first = false;
    }
    if (tries) setTimeout(() => find(tries - 1), 100);  // what is drawn anew meanwhile loses the focus
  };
  if (data.key) setTimeout(() => find(30), 50);
}
