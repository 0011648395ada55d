// Gives an element new contents but keeps every node that is still there, so that focus, a click
// half done and what is under the pointer survive.

export function morph(element, html) {
  const wanted = document.createElement(element.tagName);
  wanted.innerHTML = html;
  children(element, wanted);
}

function children(old, wanted) {
  const [before, after] = [[...old.childNodes], [...wanted.childNodes]];
  after.forEach((node, n) => {
    const there = before[n];
    if (!there) old.append(node);
    else if (there.nodeName !== node.nodeName) there.replaceWith(node);
    else if (node.nodeType === Node.TEXT_NODE) {
      if (there.data !== node.data) there.data = node.data;
    } else {
      for (const { name } of [...there.attributes]) {
        if (!node.hasAttribute(name)) there.removeAttribute(name);
      }
      for (const { name, value } of node.attributes) {
        if (there.getAttribute(name) !== value) there.setAttribute(name, value);
      }
      children(there, node);
    }
  });
  for (const extra of before.slice(after.length)) extra.remove();
}
