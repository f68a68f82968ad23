/** The whole page: a gate until the server answers, then the bar and the widgets. */
import { effect } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { phase, signOut, start, startError } from "../data/session";
import { formatTime } from "../format/times";
import { Grid } from "../grid/Grid";
import { announcement, freshness, view, whoami } from "../state/store";
import { Icon } from "./Icon";
import { SignIn } from "./SignIn";
import { Brand, TopBar } from "./TopBar";

export function App() {
  useEffect(() => void start(), []);
  switch (phase.value) {
    case "sign_in":
      return <SignIn />;
    case "starting":
      return (
        <main class="gate" id="main" aria-busy="true">
          <div class="gate-card gate-wait">
            <Brand />
            <p class="hint" role="status">
              Loading…
            </p>
          </div>
        </main>
      );
    case "forbidden":
      return (
        <Gate icon="lock" title="No permission">
          <p class="hint">You may not see the dashboard. Ask the operator of the server for access.</p>
          {whoami.value?.has_session && (
            <button type="button" class="button wide" onClick={() => void signOut()}>
              Sign in as somebody else
            </button>
          )}
        </Gate>
      );
    case "failed":
      return (
        <Gate icon="warning" title="The server does not answer">
          <p class="hint">{startError.value?.message}</p>
          <button type="button" class="button primary wide" onClick={() => void start()}>
            Try again
          </button>
        </Gate>
      );
    case "ready":
      return <Dashboard />;
  }
}

function Gate(props: { icon: "lock" | "warning"; title: string; children: preact.ComponentChildren }) {
  return (
    <main class="gate" id="main">
      <div class="gate-card">
        <Icon name={props.icon} />
        <h1>{props.title}</h1>
        {props.children}
      </div>
    </main>
  );
}

function Dashboard() {
  return (
    <>
      <a class="skip-link" href="#main">
        Skip to the figures
      </a>
      <TopBar />
      <StaleBanner />
      <main id="main" tabIndex={-1}>
        <h1 class="visually-hidden">Campaign dashboard</h1>
        <Grid layout={view.value.layout} />
      </main>
      <Announcer />
    </>
  );
}

function StaleBanner() {
  const server = freshness.value?.server;
  if (!server?.is_stale) return null;
  return (
    <div class="banner" role="alert">
      <Icon name="warning" />
      <p>
        <strong>The figures are not current.</strong>{" "}
        {server.stale_since && `They have not moved since ${formatTime(server.stale_since)}. `}
        {server.problem}
      </p>
    </div>
  );
}

/** Says things twice: to screen readers, and as a short note at the bottom. */
function Announcer() {
  const [isShown, setShown] = useState(false);
  useEffect(
    () =>
      effect(() => {
        if (announcement.value === "") return undefined;
        setShown(true);
        const timer = setTimeout(() => setShown(false), 3000);
        return () => clearTimeout(timer);
      }),
    [],
  );
  return (
    <div class="announcer" role="status" aria-live="polite" data-shown={isShown ? "" : undefined}>
      {announcement.value}
    </div>
  );
}
