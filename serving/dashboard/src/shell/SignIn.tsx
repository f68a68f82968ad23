/** Signs in: with a name and a password, or with an API key. The page keeps neither. */
import { useEffect, useState } from "preact/hooks";
import { ApiError, get, signIn } from "../api/client";
import type { Credentials, SignInMethods } from "../api/contract";
import { start } from "../data/session";
import { Brand } from "./TopBar";

type Method = "password" | "key";

function explain(error: unknown, method: Method): string {
  if (!(error instanceof ApiError)) return String(error);
  if (error.status === 401) {
    return method === "key" ? "The server does not know this key." : "The name or the password is wrong.";
  }
  return error.status === 429 ? "Too many attempts have failed. Try again in a minute." : error.message;
}

export function SignIn() {
  const [methods, setMethods] = useState<Method[]>([]);
  const [chosen, setChosen] = useState<Method | null>(null);
  const [name, setName] = useState("");
  const [secret, setSecret] = useState("");
  const [problem, setProblem] = useState("");
  const [isBusy, setBusy] = useState(false);
  useEffect(() => {
    get("v1/session").then(
      (answer) => setMethods((answer as SignInMethods).methods),
      () => setMethods(["key"]),
    );
  }, []);
  const method = chosen ?? methods[0] ?? "key";
  const other = methods.find((one) => one !== method);
  const onSubmit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    setProblem("");
    const credentials: Credentials = method === "key" ? { key: secret.trim() } : { name, password: secret };
    try {
      await signIn(credentials);
      await start();
    } catch (error) {
      setProblem(explain(error, method));
    }
    setBusy(false);
  };
  const onOther = () => {
    setChosen(other ?? null);
    setSecret("");
    setProblem("");
  };
  const isWrong = problem !== "";
  return (
    <main class="gate" id="main">
      <form class="gate-card" onSubmit={onSubmit}>
        <Brand />
        <h1>Sign in</h1>
        {method === "password" && (
          <label>
            Name
            <input
              type="text"
              name="username"
              autocomplete="username"
              value={name}
              aria-invalid={isWrong}
              aria-describedby="sign-in-problem"
              onInput={(event) => setName(event.currentTarget.value)}
            />
          </label>
        )}
        <label>
          {method === "key" ? "API key" : "Password"}
          <input
            type="password"
            name="password"
            autocomplete={method === "key" ? "off" : "current-password"}
            value={secret}
            aria-invalid={isWrong}
            aria-describedby="sign-in-problem"
            onInput={(event) => setSecret(event.currentTarget.value)}
          />
        </label>
        <p id="sign-in-problem" class="field-error" role="alert">
          {problem}
        </p>
        <button
          type="submit"
          class="button primary wide"
          disabled={isBusy || secret.trim() === "" || (method === "password" && name === "")}
        >
          Sign in
        </button>
        {other && (
          <button type="button" class="button wide" onClick={onOther}>
            {other === "key" ? "Use an API key instead" : "Use a name and a password instead"}
          </button>
        )}
      </form>
    </main>
  );
}
