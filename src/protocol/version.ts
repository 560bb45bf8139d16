/** Of the messages between members. Raised with every change of their meaning; both sides must speak the same. */
export const protocolVersion = 1;
/** Of the product; the same as in package.json (the gate compares them). */
export const productVersion = "0.1.0";
