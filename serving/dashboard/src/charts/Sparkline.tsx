/** The small line in a tile. It is decoration: the chart and its table hold the figures. */

interface Props {
  values: (number | null)[];
  /** From here on figures may still change. */
  provisionalFrom: number;
}

export function Sparkline({ values, provisionalFrom }: Props) {
  const known = values.filter((value): value is number => value !== null);
  if (known.length < 2) return <div class="sparkline" aria-hidden="true" />;
  const high = Math.max(...known);
  const low = Math.min(...known, high * 0.6);
  const span = high - low || 1;
  const points = values
    .map((value, index) => ({ index, value }))
    .filter((point): point is { index: number; value: number } => point.value !== null)
    .map(({ index, value }) => {
      const x = (index / (values.length - 1)) * 100;
      const y = 30 - ((value - low) / span) * 28;
      return { index, text: `${x.toFixed(2)} ${y.toFixed(2)}`, x };
    });
  const settled = points.filter((point) => point.index < provisionalFrom);
  const open = points.filter((point) => point.index >= provisionalFrom - 1);
  const line = settled.map((point) => point.text).join("L");
  const first = points[0]!;
  const last = points[points.length - 1]!;
  return (
    <svg class="sparkline" viewBox="0 0 100 32" preserveAspectRatio="none" aria-hidden="true">
      <path class="spark-area" d={`M${points.map((p) => p.text).join("L")}L${last.x} 32L${first.x} 32Z`} />
      {settled.length > 0 && <path class="spark-line" d={`M${line}`} />}
      {open.length > 1 && <path class="spark-line spark-open" d={`M${open.map((p) => p.text).join("L")}`} />}
    </svg>
  );
}
