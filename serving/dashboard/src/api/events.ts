/**
 * Reads `text/event-stream` from a response body.
 *
 * `EventSource` cannot send the key in a header, so the stream is read by `fetch`.
 */

export interface ServerEvent {
  id: string | null;
  name: string;
  data: string;
}

/** Splits text into events. Text of an event that is not complete yet is kept for the next call. */
export class EventParser {
  private rest = "";

  push(text: string): ServerEvent[] {
    const whole = this.rest + text;
    // The line feed that belongs to a last carriage return may still be on its way.
    const held = whole.endsWith("\r") ? "\r" : "";
    const blocks = whole
      .slice(0, whole.length - held.length)
      .replace(/\r\n?/g, "\n")
      .split("\n\n");
    this.rest = (blocks.pop() ?? "") + held;
    return blocks.map(parseBlock).filter((event) => event !== null);
  }
}

function parseBlock(block: string): ServerEvent | null {
  let id: string | null = null;
  let name = "message";
  const data: string[] = [];
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    if (colon === 0) continue;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "id") id = value;
    else if (field === "event") name = value;
    else if (field === "data") data.push(value);
  }
  return data.length === 0 ? null : { id, name, data: data.join("\n") };
}

/** Calls `onEvent` for each event until the stream ends. */
export async function readEvents(response: Response, onEvent: (event: ServerEvent) => void): Promise<void> {
  if (!response.body) return;
  const parser = new EventParser();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    for (const event of parser.push(value)) onEvent(event);
  }
}
