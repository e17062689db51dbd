// Loses GPU devices as a crashed driver would. The server adds it to the page and to the beginning of the package's
// worker; the package does not contain it.

const channel = new BroadcastChannel("firelight-tests");
const devices = new Set();

if (globalThis.GPUAdapter) {
  const { requestDevice } = GPUAdapter.prototype;
  GPUAdapter.prototype.requestDevice = async function (...args) {
    const device = await requestDevice.apply(this, args);
    devices.add(device);
    return device;
  };
}

function destroyAll() {
  const count = devices.size;
  for (const device of devices) device.destroy();
  devices.clear();
  return count;
}

channel.onmessage = ({ data }) => {
  if (data !== "lose") return;
  const count = destroyAll();
  if (count > 0) channel.postMessage({ lost: count });
};

/** Destroys every device of this page and its workers. */
export async function loseDevices() {
  if (destroyAll() > 0) return;
  await new Promise((resolve) => {
    const answers = new BroadcastChannel("firelight-tests");
    answers.onmessage = ({ data }) => {
      if (!data.lost) return;
      answers.close();
      resolve();
    };
    channel.postMessage("lose");
  });
}
