"""OpenAI's forms of an answer: a chat's and a completion's, whole and in pieces."""
