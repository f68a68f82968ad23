/** The entry: draws the page, and writes the whole view into the address so that "back" finds it. */
import { render } from "preact";
import { App } from "./shell/App";
import { view } from "./state/store";
import { printView } from "./state/url";
import "./styles/index.css";

const query = printView(view.peek()).toString();
history.replaceState(null, "", query === "" ? location.pathname : `?${query}`);
render(<App />, document.getElementById("app")!);
