/**
 * Gross figures: of valid and invalid events. They are metrics of their own, `gross_clicks` beside
 * `clicks`. A question for gross figures names those, and its answer has the usual names again, so that no widget has
 * to know.
 *
 * Metrics that have no gross figure are asked for as they are, and are net.
 */
import type { Answer, Question } from "./contract";

const GROSS = ["impressions", "clicks", "conversions", "spend", "revenue", "ctr", "cvr", "cpc", "cpm", "cpa", "roas"];

export function hasGross(metric: string): boolean {
  return GROSS.includes(metric);
}

function gross(name: string): string {
  return hasGross(name) ? `gross_${name}` : name;
}

/** The question as the API knows it. */
export function toApi({ traffic, ...question }: Question): Question {
  if (traffic !== "gross") return question;
  const order = question.order?.map((name) => (name.startsWith("-") ? `-${gross(name.slice(1))}` : gross(name)));
  return { ...question, metrics: question.metrics.map(gross), ...(order ? { order } : {}) };
}

/** The answer with the names that the question has. */
export function fromApi(question: Question, answer: Answer): Answer {
  if (question.traffic !== "gross") return answer;
  const columns = answer.columns.map((column) => ({ ...column, name: column.name.replace(/^gross_/, "") }));
  return { ...answer, columns };
}
