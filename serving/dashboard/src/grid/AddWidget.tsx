/** The bar above the grid while it is edited: add widgets, go back to the first arrangement, be done. */
import { useState } from "preact/hooks";
import { shownMetrics } from "../data/metrics";
import { Icon } from "../shell/Icon";
import { announce, changeView, isEditing } from "../state/store";
import { CATALOGUE } from "../widgets/registry";
import { DEFAULT_LAYOUT } from "./defaults";
import { add, type Item, type WidgetType } from "./layout";

export function AddWidget({ layout }: { layout: Item[] }) {
  const [choice, setChoice] = useState("tile.frequency");
  const onSubmit = (event: Event) => {
    event.preventDefault();
    const [type, ...options] = choice.split(".");
    const [after, id] = add(layout, type as WidgetType, options);
    changeView({ layout: after });
    announce("Widget added as the first one");
    requestAnimationFrame(() => document.querySelector<HTMLElement>(`[data-id="${id}"] .grip`)?.focus());
  };
  return (
    <form class="add-bar" onSubmit={onSubmit}>
      <p id="grip-help">
        Drag a widget by its handle, or focus the handle: arrow keys move it, <kbd>Shift</kbd> with arrow keys resizes
        it, <kbd>Delete</kbd> removes it.
      </p>
      <label>
        <span class="visually-hidden">Widget to add</span>
        <select class="select" value={choice} onChange={(event) => setChoice(event.currentTarget.value)}>
          <optgroup label="Tiles">
            {shownMetrics().map((metric) => (
              <option key={metric.name} value={`tile.${metric.name}`}>
                {metric.label}
              </option>
            ))}
          </optgroup>
          <optgroup label="Widgets">
            {CATALOGUE.map(([value, label]) => (
              <option key={value} value={value}>
                {label}
              </option>
            ))}
          </optgroup>
        </select>
      </label>
      <button type="submit" class="button primary">
        <Icon name="plus" />
        <span>Add widget</span>
      </button>
      <button
        type="button"
        class="button"
        onClick={() => {
          changeView({ layout: DEFAULT_LAYOUT });
          announce("The first arrangement is back");
        }}
      >
        <Icon name="reset" />
        <span>Reset</span>
      </button>
      <button type="button" class="button" onClick={() => (isEditing.value = false)}>
        Done
      </button>
    </form>
  );
}
