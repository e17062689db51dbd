/** The demo model's address. Importing it makes a bundler copy the model, 5.4 MiB, into the build. */
declare const demo: string;
export default demo;
