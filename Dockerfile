# syntax=docker/dockerfile:1
# Build stage: the whole toolchain, thrown away afterwards.
FROM node:24-bookworm-slim AS build
WORKDIR /src
COPY package.json package-lock.json ./
RUN npm ci
COPY . .
RUN npm run build && npm prune --omit=dev && mkdir -m 0700 -p /var/lib/keelplane

# Run stage: no shell, no package manager, uid 65532.
FROM gcr.io/distroless/nodejs24-debian12:nonroot
LABEL org.opencontainers.image.title="keelplane" \
      org.opencontainers.image.description="The data plane for AI agents" \
      org.opencontainers.image.licenses="Apache-2.0"
WORKDIR /app
COPY --from=build /src/package.json /src/LICENSE ./
COPY --from=build /src/node_modules ./node_modules
COPY --from=build /src/dist ./dist
COPY --from=build /src/proto ./proto
# A new volume takes the owner of what the image has there.
COPY --from=build --chown=65532:65532 /var/lib/keelplane /var/lib/keelplane
ENV NODE_ENV=production \
    KEELPLANE_DATA_DIR=/var/lib/keelplane
VOLUME ["/var/lib/keelplane"]
EXPOSE 50051 50052
USER 65532:65532
ENTRYPOINT ["/nodejs/bin/node", "/app/dist/main.js"]
CMD ["serve"]
