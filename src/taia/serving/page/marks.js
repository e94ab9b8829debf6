// A mode's mark: a shape and a colour, the same that taia's reports give it by its place.

const SVG = "http://www.w3.org/2000/svg";
const SHAPES = [
  ["circle", { cx: 8, cy: 8, r: 5 }],
  ["rect", { x: 3, y: 3, width: 10, height: 10 }],
  ["polygon", { points: "8,1 15,8 8,15 1,8" }],
  ["polygon", { points: "8,1.5 14.5,13 1.5,13" }],
  ["polygon", { points: "8,14.5 14.5,3 1.5,3" }],
  ["polygon", { points: "2,6 14,6 14,10 2,10" }],
];

/**
 * @param {string} name of an SVG element
 * @param {Object<string, string | number>} attributes
 * @returns {SVGElement}
 */
export function svg(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

/**
 * @param {number} place of the mode in the server's list; beyond six the shapes come hollow
 * @returns {SVGElement}
 */
export function mark(place) {
  const [shape, points] = SHAPES[place % SHAPES.length];
  const hollow = place >= SHAPES.length ? " open" : "";
  const drawing = svg("svg", { class: `key m${place % SHAPES.length}${hollow}`, viewBox: "0 0 16 16" });
  drawing.setAttribute("aria-hidden", "true");
  drawing.append(svg(shape, points));
  return drawing;
}
