//! What the embedded registry does where it speaks ACR.
