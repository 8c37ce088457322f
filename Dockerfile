# docker build -t mxbatch .
# docker run --gpus all -v /archive:/archive:ro -v /calls:/out -v mxbatch-cache:/cache mxbatch score /archive --out /out
#
# /calls has to belong to user 10001. Without --gpus all it runs on the processor. A model of your own instead of the
# reference: -v /bundle:/model:ro and --model /model. Compiled engines are kept in mxbatch-cache.
#
# EXTRAS are those of pyproject.toml; the two here are permissive. TensorRT and nvImageCodec's libraries are under
# NVIDIA's own terms, so they come when they are asked for:
#     docker build --build-arg EXTRAS=onnx,ray,tensorrt,nvimgcodec -t mxbatch .

# devel and not base: on a GPU the runtime `inductor` compiles against CUDA's headers
FROM nvidia/cuda:13.0.1-devel-ubuntu24.04

# g++ for `inductor`; python3-dev for Triton, which compiles a launcher for its kernels; wget for KubeRay's probes
RUN apt-get update \
 && apt-get install --yes --no-install-recommends g++ python3 python3-dev python3-venv wget \
 && rm -rf /var/lib/apt/lists/*

ARG EXTRAS=onnx,ray
COPY . /src
# ray[default] has the job server that a RayJob of Kubernetes is submitted to
RUN python3 -m venv /opt/mxbatch \
 && /opt/mxbatch/bin/pip install --no-cache-dir -c /src/constraints.txt "/src[$EXTRAS]" 'ray[default]' \
 && rm -rf /src

RUN useradd --create-home --uid 10001 mxbatch \
 && install --directory --owner=mxbatch --mode=0700 /cache
USER mxbatch
WORKDIR /home/mxbatch
ENV PATH=/opt/mxbatch/bin:$PATH XDG_CACHE_HOME=/cache

ENTRYPOINT ["mxbatch"]
CMD ["--help"]
