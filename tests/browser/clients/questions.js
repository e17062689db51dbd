// What is asked of every client.

import { z } from "zod";

export const prompt = "Lily was happy";
export const baseURL = "http://localhost/v1";
export const apiKey = "-";
export const rain = {
  name: "rain",
  description: "Tells whether it rains",
  place: z.object({ place: z.enum(["Rome", "Oslo"]) }),
};
export const person = z.object({ name: z.string().max(5), age: z.number().int().min(1).max(9) });

/** The error of a promise as plain data. */
export const errorOf = (promise) =>
  promise.then(
    () => "nothing",
    (error) => ({ name: error.name, status: error.status ?? error.statusCode, message: error.message }),
  );
