// A resident program: a line of JSON-RPC in, a line out.
const readline = require("node:readline");

const methods = { square: (n) => n * n };

readline.createInterface({ input: process.stdin }).on("line", async (line) => {
  const { id, method, params = [] } = JSON.parse(line);
  let answer;
  try {
    const named = Array.isArray(params) ? params : Object.values(params);
    answer = { result: await methods[method](...named) };
  } catch (error) {
    answer = { error: { code: 1, message: String(error) } };
  }
  process.stdout.write(JSON.stringify({ jsonrpc: "2.0", id, ...answer }) + "\n");
});
