/** The bar at the top: what is shown, how current it is, and what can be done with the view. */
import type { Comparison, Model, Traffic } from "../api/contract";
import { signOut } from "../data/session";
import { announce, changeView, isEditing, range, view, whoami, zone } from "../state/store";
import { formatRange } from "../format/times";
import { printView } from "../state/url";
import { COMPARISONS, MODELS, type Theme, TRAFFIC } from "../state/view";
import { AlarmBell } from "./AlarmBell";
import { CampaignPicker } from "./CampaignPicker";
import { Chips } from "./Chips";
import { Icon, type IconName } from "./Icon";
import { LiveBadge } from "./LiveBadge";
import { Choices, Popover } from "./Popover";
import { RangePicker } from "./RangePicker";
import { SavedViews } from "./SavedViews";

const THEMES: [Theme, string, IconName][] = [
  ["system", "As the system", "system"],
  ["light", "Light", "sun"],
  ["dark", "Dark", "moon"],
];

export function Brand() {
  return (
    <span class="brand">
      <svg viewBox="0 0 24 24" class="brand-mark" aria-hidden="true">
        <rect width="24" height="24" rx="6" />
        <path d="M5 15.5q3.5-3.5 7 0t7 0M5 10.5q3.5-3.5 7 0t7 0" />
      </svg>
      adlake
    </span>
  );
}

export function TopBar() {
  const { compare, model, traffic } = view.value;
  const trafficText = TRAFFIC.find(([name]) => name === traffic)![1];
  const comparison = COMPARISONS.find(([name]) => name === (compare ?? "none"))![1];
  const modelText = MODELS.find(([name]) => name === model)![1];
  return (
    <header class="top-bar">
      <div class="top-row">
        <Brand />
        <LiveBadge />
        <div class="actions">
          <AlarmBell />
          <button
            type="button"
            class="button"
            aria-pressed={isEditing.value}
            data-active={isEditing.value ? "" : undefined}
            onClick={() => (isEditing.value = !isEditing.value)}
          >
            <Icon name="layout" />
            <span class="button-text">{isEditing.value ? "Done" : "Customize"}</span>
          </button>
          <SavedViews />
          <ShareButton />
          <button type="button" class="button icon-button" aria-label="Print" title="Print" onClick={() => print()}>
            <Icon name="print" />
          </button>
          <ThemeMenu />
          <UserMenu />
        </div>
      </div>
      <div class="filter-row" role="group" aria-label="What is shown">
        <RangePicker />
        <Popover label="Compare with" icon="compare" text={comparison}>
          {() => (
            <Choices<Comparison | "none">
              label="Compare with"
              options={COMPARISONS}
              value={compare ?? "none"}
              onChoose={(name) => changeView({ compare: name === "none" ? null : name })}
            />
          )}
        </Popover>
        <CampaignPicker />
        <Popover label="Attribution model" icon="model" text={modelText}>
          {() => (
            <Choices<Model>
              label="Attribution model"
              options={MODELS}
              value={model}
              onChoose={(name) => changeView({ model: name })}
            />
          )}
        </Popover>
        <Popover label="Traffic" icon="traffic" text={trafficText} isActive={traffic === "gross"}>
          {() => (
            <Choices<Traffic>
              label="Traffic"
              options={TRAFFIC}
              value={traffic}
              onChoose={(name) => changeView({ traffic: name })}
            />
          )}
        </Popover>
        <Chips />
        <p class="shown-dates">
          {formatRange(range.value)} <span class="muted">{zone.value}</span>
        </p>
      </div>
    </header>
  );
}

function ShareButton() {
  const share = async () => {
    const address = new URL(`?${printView(view.peek())}`, location.href).href;
    try {
      await navigator.clipboard.writeText(address);
      announce("Link copied");
    } catch {
      // Without the clipboard (for example over plain HTTP) the address bar still holds the link.
      history.replaceState(null, "", address);
      announce("The link is in the address bar");
    }
  };
  return (
    <button
      type="button"
      class="button icon-button"
      aria-label="Copy link to this view"
      title="Copy link"
      onClick={share}
    >
      <Icon name="share" />
    </button>
  );
}

function ThemeMenu() {
  const theme = view.value.theme;
  const icon = THEMES.find(([name]) => name === theme)![2];
  return (
    <Popover label="Theme" icon={icon} align="right">
      {() => (
        <Choices<Theme>
          label="Theme"
          options={THEMES.map(([name, label]) => [name, label] as const)}
          value={theme}
          onChoose={(name) => changeView({ theme: name })}
        />
      )}
    </Popover>
  );
}

function UserMenu() {
  const user = whoami.value;
  if (!user) return null;
  const { scope } = user;
  const campaigns = scope.campaigns?.length ?? 0;
  const advertisers = scope.advertisers?.length ?? 0;
  const sees = scope.all
    ? "Sees all campaigns"
    : `Sees ${[
        advertisers > 0 && `${advertisers} advertiser${advertisers === 1 ? "" : "s"}`,
        campaigns > 0 && `${campaigns} campaign${campaigns === 1 ? "" : "s"}`,
      ]
        .filter(Boolean)
        .join(" and ")}`;
  return (
    <Popover label="Account" icon="user" align="right">
      {() => (
        <div class="account">
          <p>
            <strong>{user.name}</strong>
            <small>
              {user.role} · {sees}
            </small>
          </p>
          {user.has_session && (
            <button type="button" class="button wide" onClick={() => void signOut()}>
              Sign out
            </button>
          )}
        </div>
      )}
    </Popover>
  );
}
