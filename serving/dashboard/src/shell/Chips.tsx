/** The filters that apply, each with a button that takes it away. */
import type { Dimension } from "../api/contract";
import { dimensionLabel, valueLabel } from "../data/dimensions";
import { announce, changeView, view } from "../state/store";
import { isFiltered, toggleFilter } from "../state/view";
import { Icon } from "./Icon";

export function Chips() {
  const filters = view.value.filters;
  if (!isFiltered(filters)) return null;
  const chips = (Object.entries(filters) as [Dimension, (string | null)[]][]).flatMap(([dimension, values]) =>
    values.map((value) => ({ dimension, value })),
  );
  return (
    <div class="chips">
      <ul aria-label="Active filters">
        {chips.map(({ dimension, value }) => {
          const label = valueLabel(dimension, value);
          return (
            <li key={`${dimension}=${value}`} class="chip">
              <span class="chip-name">{dimensionLabel(dimension)}</span>
              <span class="chip-value">{label}</span>
              <button
                type="button"
                aria-label={`Remove filter ${dimensionLabel(dimension)}: ${label}`}
                onClick={() => {
                  changeView({ filters: toggleFilter(filters, dimension, value) });
                  announce(`Filter ${label} removed`);
                }}
              >
                <Icon name="close" />
              </button>
            </li>
          );
        })}
      </ul>
      <button type="button" class="link" onClick={() => changeView({ filters: {} })}>
        Clear all
      </button>
    </div>
  );
}
