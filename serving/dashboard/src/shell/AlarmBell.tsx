/** How many alarms there are. It leads to the widget that shows them, and adds it where there is none. */
import { useAlarms } from "../data/alarms";
import { add } from "../grid/layout";
import { announce, changeView, view } from "../state/store";
import { showAlarms } from "../widgets/AlarmMarks";
import { Icon } from "./Icon";

export function AlarmBell() {
  const { loaded, alarms } = useAlarms();
  if (loaded.data?.is_enabled === false || (loaded.data === null && loaded.error)) return null;
  const open = alarms.filter((alarm) => alarm.acked_by === null && alarm.silenced_until === null);
  const isCritical = open.some((alarm) => alarm.severity === "critical");
  const tone = open.length === 0 ? undefined : isCritical ? "bad" : "warn";
  const text = alarms.length === 1 ? "1 alarm" : `${alarms.length} alarms`;
  const label = alarms.length === 0 ? "No alarms" : text;
  const show = () => {
    if (showAlarms()) return;
    const [layout] = add(view.peek().layout, "alarms", []);
    changeView({ layout });
    announce("The alarms were added to the page");
    setTimeout(showAlarms, 50);
  };
  return (
    <button
      type="button"
      class={alarms.length === 0 ? "button icon-button" : "button alarm-bell"}
      data-tone={tone}
      aria-label={`${label}: show them`}
      title={label}
      onClick={show}
    >
      <Icon name="bell" />
      {alarms.length > 0 && <span>{alarms.length}</span>}
    </button>
  );
}
