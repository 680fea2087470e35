// One entry of the browser's history for each thing that a person does: the first change of the address after a press
// of the pointer or a key adds one, and all that follow from it replace that one. So Back takes back one choice.
export default function () {
  if (window.oneEntryAnAct) return;
  window.oneEntryAnAct = true;
  const { pushState, replaceState } = window.history;
  let acted = false;
  for (const kind of ["pointerdown", "keydown"]) window.addEventListener(kind, () => { acted = true; }, true);
  window.addEventListener("popstate", () => { acted = false; }, true);
  window.history.pushState = window.history.replaceState = function (state, title, url) {
    const changes = new URL(url ?? "", window.location.href).href !== window.location.href;
    (changes && acted ? pushState : replaceState).call(window.history, state, title, url);
    if (changes) acted = false;
  };
}
