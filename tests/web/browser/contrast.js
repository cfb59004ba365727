// Contrast that axe does not look at, in the colours of now: borders of buttons, and placeholders.
() => {
  const channels = (colour) => colour.match(/[\d.]+/g).map(Number);
  const light = (colour) => channels(colour).slice(0, 3).map((one) => one / 255)
    .map((one) => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
    .reduce((sum, one, place) => sum + one * [0.2126, 0.7152, 0.0722][place], 0);
  const ground = (one) => {
    const colour = one ? getComputedStyle(one).backgroundColor : "rgb(255, 255, 255)";
    return channels(colour)[3] === 0 ? ground(one.parentElement) : colour;
  };
  const far = (one, other) => {
    const [darker, lighter] = [light(one), light(other)].sort((a, b) => a - b);
    return (lighter + 0.05) / (darker + 0.05);
  };
  const found = [];
  for (const one of document.querySelectorAll(".quiet"))
    if (far(getComputedStyle(one).borderTopColor, ground(one.parentElement)) < 3) found.push(`pale border: ${one.outerHTML}`);
  for (const one of document.querySelectorAll("[placeholder]"))
    if (far(getComputedStyle(one, "::placeholder").color, ground(one)) < 4.5) found.push(`pale: ${one.outerHTML}`);
  return found;
}
