/** Views that were saved under a name: open one, save this one, delete one. */
import { useState } from "preact/hooks";
import { printView } from "../state/url";
import { removeView, savedViews, saveView } from "../state/saved";
import { announce, changeView, openView, view } from "../state/store";
import { Icon } from "./Icon";
import { Popover } from "./Popover";

export function SavedViews() {
  return (
    <Popover label="Saved views" icon="bookmark" align="right">
      {(close) => <SavedList close={close} />}
    </Popover>
  );
}

function SavedList({ close }: { close: () => void }) {
  const [name, setName] = useState("");
  const shown = printView({ ...view.value, theme: "system" }).toString();
  const onSubmit = (event: Event) => {
    event.preventDefault();
    if (name.trim() === "") return;
    saveView(name.trim());
    announce(`View ${name.trim()} saved`);
    setName("");
  };
  return (
    <>
      <h2 class="panel-title">Saved views</h2>
      {savedViews.value.length === 0 && <p class="hint">Save the range, filters and layout to come back to them.</p>}
      <ul class="saved-list">
        {savedViews.value.map((saved) => (
          <li key={saved.name}>
            <button
              type="button"
              class="choice"
              aria-current={saved.query === shown ? "true" : undefined}
              onClick={() => {
                openView(saved.query);
                changeView({ layout: view.peek().layout });
                announce(`View ${saved.name} opened`);
                close();
              }}
            >
              {saved.name}
            </button>
            <button
              type="button"
              class="button icon-button quiet"
              aria-label={`Delete view ${saved.name}`}
              onClick={() => removeView(saved.name)}
            >
              <Icon name="trash" />
            </button>
          </li>
        ))}
      </ul>
      <form class="save-form" onSubmit={onSubmit}>
        <label>
          Save this view as
          <input
            type="text"
            maxLength={60}
            value={name}
            placeholder="For example: Weekly review"
            onInput={(event) => setName(event.currentTarget.value)}
          />
        </label>
        <button type="submit" class="button primary" disabled={name.trim() === ""}>
          Save
        </button>
      </form>
    </>
  );
}
