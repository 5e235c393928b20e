/** Random access to the bytes of a file or of a buffer, and a reader that walks through them in small windows. */

import { UserError } from "../../errors.ts";

/** What every error about a cut-off file advises. */
const AGAIN = "copy or download it again";

/** Bytes with a name, read by ranges. Dispose of it (`using`) to close the file. */
export class ByteSource implements Disposable {
  private constructor(
    /** Path, for error messages. */
    readonly label: string,
    readonly size: number,
    readonly fill: (offset: number, into: Uint8Array) => number,
    readonly close: () => void,
  ) {}

  /**
   * Opens a file.
   * @throws {UserError} if it is missing or a folder
   */
  static open(path: string): ByteSource {
    let file: Deno.FsFile;
    try {
      file = Deno.openSync(path);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) throw new UserError(`${path}: no such file`);
      throw error;
    }
    const { size, isFile } = file.statSync();
    if (!isFile) {
      file.close();
      throw new UserError(`${path}: not a file`);
    }
    const fill = (offset: number, into: Uint8Array) => {
      file.seekSync(offset, Deno.SeekMode.Start);
      let done = 0;
      for (let count; done < into.length && (count = file.readSync(into.subarray(done))) !== null;) done += count;
      return done;
    };
    return new ByteSource(path, size, fill, () => file.close());
  }

  /** Bytes in memory; `label` is what error messages call them. */
  static of(bytes: Uint8Array, label: string): ByteSource {
    const fill = (offset: number, into: Uint8Array) => {
      const part = bytes.subarray(offset, offset + into.length);
      into.set(part);
      return part.length;
    };
    return new ByteSource(label, bytes.length, fill, () => {});
  }

  /**
   * Bytes [offset, offset + length).
   * @param what names the part of the file for the error
   * @throws {UserError} where the file ends before them
   */
  read(offset: number, length: number, what: string): Uint8Array<ArrayBuffer> {
    if (!(offset >= 0 && length >= 0 && offset + length <= this.size)) {
      throw new UserError(`${this.label}: the file is truncated: ${what} ends after the end of the file`, AGAIN);
    }
    const bytes = new Uint8Array(length);
    if (this.fill(offset, bytes) < length) {
      throw new UserError(`${this.label}: the file is truncated in ${what}`, AGAIN);
    }
    return bytes;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Bytes that are fetched at once while walking. */
const WINDOW = 1 << 16;

/** Walks through a range of a source. */
export class ByteReader {
  #window = new Uint8Array(0);
  #start = 0;

  /**
   * @param what names the part of the file for errors
   * @param position where the next byte is read, from the start of the source
   * @param end where the part ends
   */
  constructor(
    readonly source: ByteSource,
    readonly what: string,
    public position = 0,
    readonly end = source.size,
  ) {}

  /** The next `length` bytes; a view that the next call may overwrite. */
  take(length: number): Uint8Array {
    const from = this.position, until = from + length;
    if (!(length >= 0) || until > this.end) {
      throw new UserError(`${this.source.label}: ${this.what} is truncated at byte ${from}`, AGAIN);
    }
    if (from < this.#start || until > this.#start + this.#window.length) {
      const size = Math.min(Math.max(length, WINDOW), this.end - from);
      this.#window = this.source.read(from, size, this.what);
      this.#start = from;
    }
    this.position = until;
    return this.#window.subarray(from - this.#start, until - this.#start);
  }

  /** The next `length` bytes as numbers; another call to the reader ends their life. */
  view(length: number): DataView {
    const bytes = this.take(length);
    return new DataView(bytes.buffer, bytes.byteOffset, length);
  }

  /** The next unsigned byte. */
  byte(): number {
    return this.take(1)[0];
  }

  /** The text up to the next line feed, which is skipped. */
  line(encoding: "utf-8" | "latin1" = "utf-8"): string {
    const letters: number[] = [];
    for (let byte; (byte = this.byte()) !== 10;) letters.push(byte);
    const text = encoding === "latin1"
      ? letters.map((letter) => String.fromCharCode(letter)).join("") // TextDecoder's latin1 is windows-1252
      : new TextDecoder().decode(Uint8Array.from(letters));
    return text.replace(/\r$/, "");
  }
}
