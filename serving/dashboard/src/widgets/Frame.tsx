/** The frame of a widget, and every state that its contents can be in. */
import type { ComponentChildren } from "preact";
import type { Loaded } from "../data/answers";
import { ApiError } from "../api/client";
import { refreshAll } from "../data/answers";
import { Icon, type IconName } from "../shell/Icon";
import { changeView, view } from "../state/store";
import { isFiltered } from "../state/view";

interface FrameProps {
  title: string;
  subtitle?: ComponentChildren;
  /** Says which filters do not apply to it. */
  note?: string | null | undefined;
  actions?: ComponentChildren;
  isWaiting?: boolean;
  children: ComponentChildren;
}

export function Frame({ title, subtitle, note, actions, isWaiting, children }: FrameProps) {
  return (
    <div class="card" aria-busy={isWaiting ?? false}>
      <div class="card-head">
        <div class="card-titles">
          <h2>{title}</h2>
          {subtitle && <p class="card-subtitle">{subtitle}</p>}
        </div>
        {actions && <div class="card-actions">{actions}</div>}
      </div>
      <div class="card-body">{children}</div>
      {note && <p class="card-note">{note}</p>}
    </div>
  );
}

interface BodyProps<T> {
  loaded: Loaded<T>;
  isEmpty: (data: T) => boolean;
  /** Whether the filters of the view apply, so that they can be the reason for nothing. */
  isFilterable?: boolean;
  children: (data: T) => ComponentChildren;
}

/** Shows the data, or why there is none. */
export function Body<T>({ loaded, isEmpty, isFilterable = true, children }: BodyProps<T>) {
  const { data, error } = loaded;
  if (data === null) {
    if (error) return <Failure error={error} />;
    return <Skeleton />;
  }
  if (isEmpty(data)) return <Empty isFilterable={isFilterable} />;
  return (
    <>
      {error && (
        <p class="inline-error" role="status">
          <Icon name="warning" /> Not refreshed: {error.message}
        </p>
      )}
      {children(data)}
    </>
  );
}

export function Skeleton() {
  return (
    <div class="skeleton" role="status">
      <span class="visually-hidden">Loading</span>
      <span class="bone" />
      <span class="bone" />
      <span class="bone" />
    </div>
  );
}

function Empty({ isFilterable }: { isFilterable: boolean }) {
  if (isFilterable && isFiltered(view.value.filters)) {
    return (
      <State icon="filter" title="Nothing matches the filters">
        <button type="button" class="button" onClick={() => changeView({ filters: {} })}>
          Clear filters
        </button>
      </State>
    );
  }
  return (
    <State icon="inbox" title="No data for these days">
      Choose other days, or wait until events arrive.
    </State>
  );
}

export function Failure({ error }: { error: ApiError }) {
  if (error.isForbidden) return <NoPermission />;
  const id = error.problem.request_id;
  return (
    <State icon="warning" title="This could not be loaded">
      <span>{sentence(error.message)}</span>
      {id && <small class="request-id">Request {id}</small>}
      <button type="button" class="button" onClick={() => refreshAll()}>
        Try again
      </button>
    </State>
  );
}

/** Messages of the server begin in lower case. */
function sentence(text: string): string {
  const whole = text.charAt(0).toLocaleUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}

export function NoPermission({ children }: { children?: ComponentChildren }) {
  return (
    <State icon="lock" title="No permission">
      {children ?? "Your key may not see this."}
    </State>
  );
}

interface StateProps {
  icon: IconName;
  title: string;
  children?: ComponentChildren;
}

export function State({ icon, title, children }: StateProps) {
  return (
    <div class="state">
      <Icon name={icon} />
      <p class="state-title">{title}</p>
      {children && <div class="state-text">{children}</div>}
    </div>
  );
}

interface SelectProps {
  label: string;
  value: string;
  options: readonly (readonly [string, string])[];
  onChange: (value: string) => void;
}

/** A small select in the head of a widget. */
export function Select({ label, value, options, onChange }: SelectProps) {
  return (
    <label class="select-label">
      <span class="visually-hidden">{label}</span>
      <select class="select" value={value} onChange={(event) => onChange(event.currentTarget.value)}>
        {options.map(([name, text]) => (
          <option key={name} value={name} selected={name === value}>
            {text}
          </option>
        ))}
      </select>
    </label>
  );
}

/** Switches between the picture and its table. */
export function TableToggle({ isTable, onToggle }: { isTable: boolean; onToggle: () => void }) {
  const label = isTable ? "Show as chart" : "Show as table";
  return (
    <button type="button" class="button icon-button quiet" aria-label={label} title={label} onClick={onToggle}>
      <Icon name={isTable ? "chart" : "table"} />
    </button>
  );
}
