// Class scores as text, with their labels.

// TensorFlow Serving's JSON has bare NaN.
export const numbersIn = (text) => JSON.parse(text.replace(/-?\b(NaN|Infinity)\b/g, "null"));

// Does not round up to certainty above 99.9%.
function percent(share) {
  const value = share * 100;
  return value > 99.9 && value < 100 ? "> 99.9%" : `${value.toFixed(1)}%`;
}

// {likely: whether the scores are probabilities, ranking: [{label, score, text}], the best first}
export function rank(values, labels) {
  const sum = values.reduce((total, score) => total + score, 0);
  const likely = Math.abs(sum - 1) < 0.01 && values.every((score) => score !== null && score > -1e-6);
  const text = (score) => (likely ? percent(score) : String(Number((score ?? NaN).toPrecision(4))));
  const ranking = values.map((score, i) => ({ label: labels[i] ?? String(i), score, text: text(score) }));
  return { likely, ranking: ranking.sort((a, b) => (b.score ?? -Infinity) - (a.score ?? -Infinity)) };
}
