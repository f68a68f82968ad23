/** The date range: presets, or two days of one's own. */
import { useState } from "preact/hooks";
import { formatRange } from "../format/times";
import { addDays } from "../state/days";
import { PRESETS, type Preset, presetLabel } from "../state/range";
import { changeView, range, today, view } from "../state/store";
import { Choices, Popover } from "./Popover";

export function RangePicker() {
  const choice = view.value.range;
  const text = typeof choice === "string" ? presetLabel(choice) : formatRange(range.value);
  return (
    <Popover label="Date range" icon="calendar" text={text}>
      {(close) => (
        <>
          <Choices<Preset | "custom">
            label="Presets"
            options={PRESETS}
            value={typeof choice === "string" ? choice : "custom"}
            onChoose={(preset) => preset !== "custom" && changeView({ range: preset })}
          />
          <CustomRange close={close} />
        </>
      )}
    </Popover>
  );
}

function CustomRange({ close }: { close: () => void }) {
  const [from, setFrom] = useState(range.value[0]);
  const [to, setTo] = useState(addDays(range.value[1], -1));
  const isValid = from !== "" && to !== "" && from <= to;
  const onSubmit = (event: Event) => {
    event.preventDefault();
    if (!isValid) return;
    changeView({ range: { from, to } });
    close();
  };
  return (
    <form class="custom-range" onSubmit={onSubmit}>
      <label>
        From
        <input type="date" value={from} max={today.value} onInput={(event) => setFrom(event.currentTarget.value)} />
      </label>
      <label>
        To
        <input type="date" value={to} max={today.value} onInput={(event) => setTo(event.currentTarget.value)} />
      </label>
      {!isValid && <p class="field-error">The first day must not be after the last.</p>}
      <button type="submit" class="button primary" disabled={!isValid}>
        Show these days
      </button>
    </form>
  );
}
