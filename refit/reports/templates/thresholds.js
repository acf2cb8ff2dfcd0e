"use strict";
// The threshold slider of the model card: what the test rows say if other rows are called positive.
for (const box of document.querySelectorAll("[data-thresholds]")) {
  const counts = JSON.parse(box.dataset.thresholds);
  const [positives, negatives] = JSON.parse(box.dataset.classes);
  const slider = box.querySelector("input[type=range]");
  const [alarm, miss] = box.querySelectorAll("input[type=number]");
  const show = (name, text) => { box.querySelector(`[data-value=${name}]`).textContent = text; };
  const whole = (value) => value.toLocaleString("en-US");
  const share = (part, of) => (of ? (part / of).toFixed(3) : "not defined");
  const price = (input) => (input.value !== "" && input.valueAsNumber >= 0 ? input.valueAsNumber : NaN);
  const cost = (hits, alarms) => alarms * price(alarm) + (positives - hits) * price(miss);
  const money = (value) => (Number.isNaN(value) ? "give two prices" : value.toLocaleString("en-US", { maximumFractionDigits: 2 }));
  const update = () => {
    const [threshold, hits, alarms] = counts[slider.value];
    const misses = positives - hits;
    const costs = counts.map(([, each, wrong]) => cost(each, wrong));
    const best = costs.indexOf(Math.min(...costs));
    slider.setAttribute("aria-valuetext", threshold.toFixed(4));
    show("threshold", threshold.toFixed(4));
    show("called", whole(hits + alarms));
    show("precision", share(hits, hits + alarms));
    show("recall", share(hits, positives));
    show("f1", share(2 * hits, 2 * hits + alarms + misses));
    show("accuracy", share(hits + negatives - alarms, positives + negatives));
    show("alarms", whole(alarms));
    show("misses", whole(misses));
    show("cost", money(cost(hits, alarms)));
    show("cheapest", best < 0 ? "" : `least at ${counts[best][0].toFixed(4)}: ${money(costs[best])}`);
  };
  box.addEventListener("input", update);
  box.hidden = false;
  update();
}
