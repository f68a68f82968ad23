/** Asks for an API key. The key goes to `sessionStorage` and into a header, never into the address. */
import { useState } from "preact/hooks";
import { hasKey, setKey } from "../api/client";
import { phase, start, startError } from "../data/session";
import { Brand } from "./TopBar";

export function SignIn() {
  const [key, setText] = useState("");
  const [isTried, setTried] = useState(hasKey.value);
  const onSubmit = async (event: Event) => {
    event.preventDefault();
    setKey(key.trim());
    setTried(true);
    await start();
    if (phase.peek() === "sign_in") setKey(null);
  };
  return (
    <main class="gate" id="main">
      <form class="gate-card" onSubmit={onSubmit}>
        <Brand />
        <h1>Sign in</h1>
        <p class="hint">Enter the API key that the operator of this server gave you.</p>
        <label>
          API key
          <input
            type="password"
            autocomplete="current-password"
            value={key}
            aria-invalid={isTried && startError.value?.status === 401}
            aria-describedby="key-error"
            onInput={(event) => setText(event.currentTarget.value)}
          />
        </label>
        <p id="key-error" class="field-error" role="alert">
          {isTried && startError.value?.status === 401 ? "The server does not know this key." : ""}
        </p>
        <button type="submit" class="button primary wide" disabled={key.trim() === ""}>
          Sign in
        </button>
        <p class="hint">The key stays in this tab and is forgotten when the tab is closed.</p>
      </form>
    </main>
  );
}
