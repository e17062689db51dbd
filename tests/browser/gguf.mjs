// Other files with the same model: split into parts, with a chat template, or padded to many bytes.

const SIZES = [1, 1, 2, 2, 4, 4, 4, 1, null, null, 8, 8, 8];
const [STRING, ARRAY] = [8, 9];

/** Parses a GGUF file (version 3): the raw bytes of its keys, and its tensors with their data. */
export function parse(file) {
  let at = 0;
  const u32 = () => file.readUInt32LE((at += 4) - 4);
  const u64 = () => Number(file.readBigUInt64LE((at += 8) - 8));
  const string = () => file.toString("utf8", at + 8, (at += 8 + Number(file.readBigUInt64LE(at))));
  const skip = (type) => {
    if (type === STRING) return void string();
    if (type !== ARRAY) return void (at += SIZES[type]);
    const [inner, count] = [u32(), u64()];
    for (let i = 0; i < count; i++) skip(inner);
  };
  if (u32() !== 0x46554747 || u32() !== 3) throw new Error("not GGUF version 3");
  const [tensorCount, keyCount] = [u64(), u64()];
  const keysStart = at;
  for (let i = 0; i < keyCount; i++) {
    string();
    skip(u32());
  }
  const keys = file.subarray(keysStart, at);
  const tensors = [];
  for (let i = 0; i < tensorCount; i++) {
    const name = string();
    const dims = Array.from({ length: u32() }, u64);
    tensors.push({ name, dims, type: u32(), offset: u64() });
  }
  const dataStart = align(at);
  const sorted = [...tensors].sort((a, b) => a.offset - b.offset);
  sorted.forEach((tensor, i) => {
    const end = sorted[i + 1]?.offset ?? file.length - dataStart;
    tensor.data = file.subarray(dataStart + tensor.offset, dataStart + end);
  });
  return { keyCount, keys, tensors };
}

const align = (n, to = 32) => Math.ceil(n / to) * to;

function header({ keyCount, keys, tensors }) {
  const parts = [];
  const u32 = (n) => parts.push(Buffer.from(Uint32Array.of(n).buffer));
  const u64 = (n) => parts.push(Buffer.from(BigUint64Array.of(BigInt(n)).buffer));
  const string = (text) => (u64(Buffer.byteLength(text)), parts.push(Buffer.from(text)));
  (u32(0x46554747), u32(3), u64(tensors.length), u64(keyCount));
  parts.push(keys);
  for (const { name, dims, type, offset } of tensors) {
    (string(name), u32(dims.length), dims.forEach(u64), u32(type), u64(offset));
  }
  const bytes = Buffer.concat(parts);
  return Buffer.concat([bytes, Buffer.alloc(align(bytes.length) - bytes.length)]);
}

const key = (name, type, value) => {
  const bytes = Buffer.alloc(8 + name.length + 4 + SIZES[type]);
  bytes.writeBigUInt64LE(BigInt(name.length), 0);
  bytes.write(name, 8);
  bytes.writeUInt32LE(type, 8 + name.length);
  bytes.writeUIntLE(value, 12 + name.length, SIZES[type]);
  return bytes;
};

/** `{ "NAME-00001-of-0000N.gguf": Buffer }`: the model in `count` parts, as llama.cpp splits it. */
export function split(file, count, name = "model") {
  const { keyCount, keys, tensors } = parse(file);
  const files = {};
  for (let part = 0; part < count; part++) {
    const mine = tensors.filter((_, i) => Math.floor((i * count) / tensors.length) === part);
    const extra = [
      key("split.no", 2, part),
      key("split.count", 2, count),
      key("split.tensors.count", 5, tensors.length),
    ];
    const own = Buffer.concat([...(part === 0 ? [keys] : []), ...extra]);
    const number = (n) => String(n).padStart(5, "0");
    files[`${name}-${number(part + 1)}-of-${number(count)}.gguf`] = joined(
      (part === 0 ? keyCount : 0) + 3,
      own,
      mine,
    );
  }
  return files;
}

/** A file with these keys and tensors, one tensor after another. */
function joined(keyCount, keys, tensors) {
  let offset = 0;
  const placed = tensors.map((tensor) => ({
    ...tensor,
    offset: (offset = align(offset) + tensor.data.length) - tensor.data.length,
  }));
  const head = header({ keyCount, keys, tensors: placed });
  const body = placed.flatMap(({ data }) => [data, Buffer.alloc(align(data.length) - data.length)]);
  return Buffer.concat([head, ...body]);
}

/** The model with this chat template. */
export function templated(file, template) {
  const { keyCount, keys, tensors } = parse(file);
  const string = (text) => {
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(Buffer.byteLength(text)));
    return [length, Buffer.from(text)];
  };
  const own = [...string("tokenizer.chat_template"), Buffer.from([STRING, 0, 0, 0]), ...string(template)];
  return joined(keyCount + 1, Buffer.concat([keys, ...own]), tensors);
}

/** The model in a file of about `length` bytes, with padding between its tensors. The file is generated while it is
 *  read, so it may be larger than memory. */
export function spread(file, length) {
  const parsed = parse(file);
  const step = align(Math.floor(length / parsed.tensors.length));
  const tensors = parsed.tensors.map((tensor, i) => ({ ...tensor, offset: i * step }));
  if (tensors.some(({ data }) => data.length > step)) throw new Error(`${length} bytes are too few`);
  const head = header({ ...parsed, tensors });
  const fixed = [
    { start: 0, data: head },
    ...tensors.map(({ offset, data }) => ({ start: head.length + offset, data })),
  ];
  const total = head.length + tensors.length * step;
  return { length: total, read: (start, end) => filled(fixed, start, end) };
}

async function* filled(fixed, start, end) {
  const PIECE = 256 * 1024;
  for (let at = start; at < end; at += PIECE) {
    const piece = Buffer.alloc(Math.min(PIECE, end - at), 0x5a);
    for (const { start, data } of fixed) {
      const [from, to] = [Math.max(at, start), Math.min(at + piece.length, start + data.length)];
      if (from < to) data.copy(piece, from - at, from - start, to - start);
    }
    yield piece;
  }
}
