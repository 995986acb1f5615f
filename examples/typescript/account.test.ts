import test from "node:test";
import assert from "node:assert";
import { account, as, connect, label } from "./account";

const api = async (method: string, path: string, body?: object) => {
  const answer = await fetch(process.env.PANDOM_CI_URL + path, {
    method,
    body: body && JSON.stringify(body),
    headers: { Authorization: `Bearer ${process.env.PANDOM_CI_TOKEN}` },
  });
  if (!answer.ok) throw new Error((await answer.json()).error);
  return answer.status === 204 ? null : answer.json();
};

test("a user sees and changes nobody else", async () => {
  const { name, urls } = await api("POST", "/databases");
  const alice = await api("POST", `/databases/${name}/users`, { email: "alice@example.com" });
  const bob = await api("POST", `/databases/${name}/users`, { email: "bob@example.com" });
  const source = await connect(urls.pandom_app);
  try {
    await as(source, alice.session_token, (manager) => label(manager, ["reader"]));
    const hers = await as(source, alice.session_token, account);
    assert.deepEqual(hers, [{ email: "alice@example.com", tags: ["reader"] }]);
    const his = await as(source, bob.session_token, account);
    assert.deepEqual(his, [{ email: "bob@example.com", tags: [] }]);
  } finally {
    await source.destroy();
    await api("DELETE", `/databases/${name}`);
  }
});
