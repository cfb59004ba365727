// What a reader with a phone would miss: text that is cut or outside, words broken in the middle, targets too small.
() => {
  const found = [];
  const told = (what, one) => found.push(`${what}: ${one.outerHTML.slice(0, 160)}`);
  for (const one of document.querySelectorAll("main details")) one.open = true;
  const all = (which) => [...document.querySelectorAll(which)].filter((one) => one.checkVisibility());
  const extent = (one) => { const range = document.createRange(); range.selectNodeContents(one); return range; };
  for (const cell of all("tbody :is(th, td)").filter((one) => !one.closest(".data"))) {
    const { left, right } = extent(cell).getBoundingClientRect();
    if (cell.scrollWidth > cell.clientWidth || left < 0 || right > innerWidth) told("cut", cell);
    if (cell.matches(".list *") && cell.cellIndex && !cell.dataset.label) told("without its column's name", cell);
  }
  for (const one of all("main :is(.state, .status, .num, .button, button)").filter((one) => !one.closest(".data, thead"))) {
    const { left, right } = one.getBoundingClientRect();
    if (left < 0 || right > innerWidth) told("outside", one);
  }
  for (const box of all(".scroll")) {
    const hides = box.scrollWidth > box.clientWidth;
    if (hides && !getComputedStyle(box).backgroundImage.includes("gradient")) told("no sign that it scrolls", box);
  }
  const texts = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const node = texts.currentNode;
    if (!node.parentElement.checkVisibility() || node.parentElement.closest("pre, svg, option")) continue;
    for (const word of node.data.matchAll(/(?<![\w.-])([a-z]{4,20}|\d{4}-\d\d-\d\d|\d\d? [A-Z][a-z]{2}(?: \d{4}|(?= –))|-?[\d,]+\.\d+)(?![\w.-])/gi)) {
      const range = document.createRange();
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      if (new Set([...range.getClientRects()].map((line) => Math.round(line.top))).size > 1) told(word[0], node.parentElement);
    }
  }
  const targets = "button, .button, input:not([type=hidden], [type=checkbox]), select, summary, nav a, .filters a, a.chip, label.check";
  const squares = all(".cell:has(a)").concat(all(targets));
  for (const one of squares) if (one.getBoundingClientRect().height < 40) told("less than 40 px high", one);
  for (const row of all(".filters")) {
    const bottoms = [...row.querySelectorAll("select, input:not([type=hidden]), button, a")].map((one) => one.getBoundingClientRect().bottom);
    if (bottoms.some((one, place) => place && Math.abs(one - bottoms[place - 1]) > 0.5 && Math.abs(one - bottoms[place - 1]) < 20)) told("not in a line", row);
  }
  for (const facts of all(".facts"))
    if (new Set([...facts.querySelectorAll("time")].map((one) => one.innerText.length)).size > 1) told("times of two precisions", facts);
  for (const menu of all(".top nav"))
    if (!menu.querySelector("[aria-current]")) told("no page is marked", menu);
  for (const one of all(".crumbs")) if (one.innerText.trim().endsWith("›")) told("ends in nothing", one);
  return found;
}
