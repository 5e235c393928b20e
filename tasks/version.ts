/** The program's version, as deno.json states it. */
import denoJson from "../deno.json" with { type: "json" };

/** For example `0.1.0`. */
export const VERSION: string = denoJson.version;
