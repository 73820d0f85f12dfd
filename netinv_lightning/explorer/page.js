// Gradio reports the release of a slider for the pointer only, so the release of a key is reported as one.
document.addEventListener("keyup", event => {
  if (event.target.matches("input[type=range]")) event.target.dispatchEvent(new PointerEvent("pointerup", {bubbles: true}));
});
