// The little that the page needs to build itself.

/** `h("p.note", {lang: "en"}, "text", node)`: attributes that are null or false are left out. */
export function h(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  if (classes.length > 0) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

export function $(selector) {
  return document.querySelector(selector);
}

/** An id in full, with a button that copies it. */
export function copyable(id, what) {
  const button = h("button.copy", { type: "button", "aria-label": `Copy the ${what}` }, "copy");
  button.addEventListener("click", async () => {
    button.textContent = (await copy(id)) ? "copied" : "press Ctrl C";
    setTimeout(() => (button.textContent = "copy"), 1600);
  });
  const text = h("code.id", {}, id);
  return h("span.copyable", {}, text, button);

  async function copy(value) {
    try {
      await navigator.clipboard.writeText(value);
      return true;
    } catch {
      // No clipboard outside of a secure context: leave the text selected.
      getSelection().selectAllChildren(text);
      return false;
    }
  }
}
