/**
 * A button with a panel below it. Escape or a click elsewhere closes the panel, and the focus
 * goes back to the button.
 */
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { Icon, type IconName } from "./Icon";

interface Props {
  label: string;
  /** What the button shows beside its icon; without it, the label is for screen readers only. */
  text?: string | undefined;
  icon?: IconName;
  isActive?: boolean;
  align?: "left" | "right";
  className?: string;
  children: (close: () => void) => ComponentChildren;
}

export function Popover({ label, text, icon, isActive, align = "left", className = "", children }: Props) {
  const [isOpen, setOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const panelId = useId();

  const close = () => {
    setOpen(false);
    button.current?.focus();
  };

  useEffect(() => {
    if (!isOpen) return undefined;
    const candidates = [".panel [type=search]", ".panel :checked", ".panel :is(input, button, select)"];
    const found = candidates.map((selector) => root.current?.querySelector<HTMLElement>(selector));
    found.find((element) => element)?.focus();
    const onPointer = (event: PointerEvent) => {
      if (!root.current?.contains(event.target as Node)) setOpen(false);
    };
    addEventListener("pointerdown", onPointer);
    return () => removeEventListener("pointerdown", onPointer);
  }, [isOpen]);

  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "Escape" && isOpen) {
      event.stopPropagation();
      close();
    }
  };
  const onFocusOut = (event: FocusEvent) => {
    const next = event.relatedTarget as Node | null;
    if (isOpen && next && !root.current?.contains(next)) setOpen(false);
  };

  return (
    <div class={`popover ${className}`} ref={root} onKeyDown={onKeyDown} onFocusOut={onFocusOut}>
      <button
        type="button"
        ref={button}
        class={text === undefined ? "button icon-button" : "button"}
        aria-label={text === undefined ? label : `${label}: ${text}`}
        aria-expanded={isOpen}
        aria-controls={panelId}
        aria-haspopup="dialog"
        data-active={isActive ? "" : undefined}
        onClick={() => setOpen(!isOpen)}
      >
        {icon && <Icon name={icon} />}
        {text !== undefined && <span class="button-text">{text}</span>}
        {text !== undefined && <Icon name="down" />}
      </button>
      <div id={panelId} class="panel" data-align={align} role="dialog" aria-label={label} hidden={!isOpen}>
        {isOpen && children(close)}
      </div>
    </div>
  );
}

interface ChoiceProps<T extends string> {
  label: string;
  options: readonly (readonly [T, string])[];
  value: T;
  onChoose: (value: T) => void;
}

/** A list of which one is chosen. Arrow keys move the choice, as in any group of radio buttons. */
export function Choices<T extends string>({ label, options, value, onChoose }: ChoiceProps<T>) {
  const name = useId();
  return (
    <fieldset class="choices">
      <legend class="visually-hidden">{label}</legend>
      {options.map(([option, text]) => (
        <label key={option} class="choice">
          <input
            type="radio"
            name={name}
            value={option}
            checked={option === value}
            onChange={() => onChoose(option)}
          />
          <span>{text}</span>
          <Icon name="check" />
        </label>
      ))}
    </fieldset>
  );
}
